#include "sift/kernels/backend.h"

namespace sift {

void Activations::ensure(const ModelShape& shape, std::int64_t rows) {
  const auto count = static_cast<std::size_t>(rows);
  const auto width =
      static_cast<std::size_t>(shape.heads) * static_cast<std::size_t>(shape.head_dim);
  hidden.ensure(count * static_cast<std::size_t>(shape.embedding));
  query.ensure(count * width);
  attended.ensure(count * width);
}

}  // namespace sift
