#include "sift/model/model.h"

#include "sift/model/model_weights.h"

namespace sift {

Model::Model(const std::string& path)
    : file_(path),
      gguf_(file_.bytes(), path),
      config_(read_model_config(gguf_)),
      shape_(make_shape(gguf_, config_)) {
  find_weights(gguf_, config_);
  check_intact();
}

ModelWeights Model::weights() const {
  ModelWeights weights = find_weights(gguf_, config_);
  check_intact();
  return weights;
}

void Model::release(const MatrixView& weight) const {
  file_.release(static_cast<std::size_t>(weight.data - file_.bytes().data()), weight.bytes());
}

void Model::check_finite() const {
  sift::check_finite(gguf_);
  check_intact();
}

}  // namespace sift
