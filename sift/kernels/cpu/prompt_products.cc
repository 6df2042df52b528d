#include "sift/kernels/cpu/prompt_products.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <bit>
#include <compare>
#include <cstring>
#include <map>
#include <oneapi/dnnl/dnnl.hpp>

#include "sift/core/error.h"
#include "sift/kernels/cpu/decode_input.h"

namespace sift::cpu {
namespace {

using dnnl::memory;

/// oneDNN multiplies panels of weights fastest in strips of 64 rows.
constexpr std::int64_t kStripRows = 64;
constexpr std::int64_t kStripTiles = kStripRows / kTileRows;
/// A panel should stay in the second and third level of cache between expansion and use.
constexpr std::int64_t kPanelBytes = std::int64_t{4} << 20;
constexpr std::int64_t kPanelRows = 4096;

/// oneDNN runs on the calling thread's setting.
class ThreadSetting {
 public:
  explicit ThreadSetting(int threads) : before_(omp_get_max_threads()) {
    omp_set_num_threads(threads);
  }
  ~ThreadSetting() { omp_set_num_threads(before_); }

 private:
  int before_;
};

}  // namespace

struct PromptProducts::Shape {
  std::int64_t rows;
  std::int64_t columns;
  std::int64_t outputs;  ///< of the panel
  bool add;
  bool pairs;

  auto operator<=>(const Shape&) const = default;
};

/// The engine, and a primitive for each shape that was seen.
struct PromptProducts::Primitives {
  static constexpr std::size_t kMaximum = 256;  ///< a chat's prompts have many lengths

  dnnl::engine engine{dnnl::engine::kind::cpu, 0};
  dnnl::stream stream{engine};
  std::map<Shape, dnnl::matmul> cache;

  static memory::desc source(const Shape& s) {
    const auto type = s.pairs ? memory::data_type::bf16 : memory::data_type::f32;
    return {{s.rows, s.columns}, type, memory::format_tag::ab};
  }
  static memory::desc weights(const Shape& s, bool strips) {
    const memory::dims dims = {s.columns, s.outputs};
    if (s.pairs) return {dims, memory::data_type::bf16, memory::format_tag::BA16a64b2a};
    if (strips) return {dims, memory::data_type::f32, memory::format_tag::BA16a64b};
    const std::int64_t stride = (s.outputs + kTileRows - 1) / kTileRows * kTileRows;
    return {dims, memory::data_type::f32, memory::dims{stride, 1}};
  }
  /// Dense: oneDNN multiplies into wider rows by its slow reference code only.
  static memory::desc destination(const Shape& s) {
    return {{s.rows, s.outputs}, memory::data_type::f32, memory::format_tag::ab};
  }

  const dnnl::matmul& get(const Shape& s, bool strips) {
    const auto found = cache.find(s);
    if (found != cache.end()) return found->second;
    if (cache.size() >= kMaximum) cache.clear();
    dnnl::primitive_attr attributes;
    if (s.add) {
      dnnl::post_ops operations;
      operations.append_sum(1.0F);
      attributes.set_post_ops(operations);
    }
    try {
      const dnnl::matmul::desc description(source(s), weights(s, strips), destination(s));
      return cache.emplace(s, dnnl::matmul({description, attributes, engine})).first->second;
    } catch (const dnnl::error& error) {
      throw Error(ErrorKind::invalid_argument,
                  fmt::format("matrix product of {} x {} by {} x {} cannot be prepared: {}", s.rows,
                              s.columns, s.columns, s.outputs, error.what()));
    }
  }
};

PromptProducts::PromptProducts(int threads, InstructionSet instruction_set)
    : threads_(threads),
      instruction_set_(instruction_set),
      strips_(instruction_set == InstructionSet::avx512),
      primitives_(std::make_unique<Primitives>()) {}

PromptProducts::~PromptProducts() = default;

void PromptProducts::set_input(const float* x, std::int64_t n, std::int64_t columns,
                               Compute compute) {
  rows_ = n;
  columns_ = (columns + kBlockColumns - 1) / kBlockColumns * kBlockColumns;
  pairs_ = instruction_set_ == InstructionSet::avx512 && compute != Compute::f32;
  rounded_ = !pairs_ && compute == Compute::bf16;
  const auto count = static_cast<std::size_t>(rows_ * columns_);
  if (pairs_ || rounded_) {
    rounded_input_.ensure(count);
    round_rows(x, n, columns, rounded_input_.data(), threads_);
    input_ = rounded_input_.data();
  }
  if (rounded_) {
    padded_input_.ensure(count);
    for (std::size_t i = 0; i < count; ++i) {
      padded_input_[i] = std::bit_cast<float>(std::uint32_t{rounded_input_[i]} << 16);
    }
    input_ = padded_input_.data();
  } else if (!pairs_ && columns_ != columns) {
    padded_input_.ensure(count);
    for (std::int64_t row = 0; row < n; ++row) {
      float* to = padded_input_.data() + row * columns_;
      std::copy_n(x + row * columns, columns, to);
      std::fill(to + columns, to + columns_, 0.0F);
    }
    input_ = padded_input_.data();
  } else if (!pairs_) {
    input_ = const_cast<float*>(x);  // oneDNN's memory objects are not const
  }
}

/// Fills the panel with `tiles` tiles. In strips: [tiles / 4, columns, 64], with pairs of columns
/// [tiles / 4, columns / 2, 64, 2]; else [columns, 16 · tiles].
void PromptProducts::expand(const PackedMatrix& weight, std::int64_t first_tile,
                            std::int64_t tiles) {
  const TileView& view = weight.view();
  const TileKernels kernels = tile_kernels(view.type, instruction_set_);
  const ExpandTile expand_tile = pairs_     ? kernels.expand_pairs
                                 : rounded_ ? kernels.expand_rounded
                                            : kernels.expand_f32;
  const std::int64_t stride = strips_ ? kStripRows : tiles * kTileRows;
  const std::int64_t strip_tiles = strips_ ? kStripTiles : tiles;
  const std::int64_t element = pairs_ ? 2 : 4;
  const std::int64_t strip_bytes = strip_tiles * kTileRows * columns_ * element;
  const std::int64_t strips = (tiles + strip_tiles - 1) / strip_tiles;
  panel_.ensure(static_cast<std::size_t>(strips * strip_bytes));
  if (tiles % strip_tiles != 0) {  // the last strip is not filled whole
    std::memset(panel_.data() + (strips - 1) * strip_bytes, 0,
                static_cast<std::size_t>(strip_bytes));
  }
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (std::int64_t t = 0; t < tiles; ++t) {
    constexpr std::int64_t kTileWidth = kTileRows * 4;  // bytes: 16 floats or 16 pairs
    expand_tile(view, first_tile + t, stride,
                panel_.data() + t / strip_tiles * strip_bytes + t % strip_tiles * kTileWidth);
  }
}

void PromptProducts::multiply_panel(const PackedMatrix& weight, std::int64_t first_tile,
                                    std::int64_t tiles, bool add, float* out) {
  expand(weight, first_tile, tiles);
  const std::int64_t outputs =
      std::min(tiles * kTileRows, weight.outputs() - first_tile * kTileRows);
  const Shape shape = {rows_, columns_, outputs, add, pairs_};
  auto& p = *primitives_;
  const dnnl::matmul& product = p.get(shape, strips_);
  memory source(Primitives::source(shape), p.engine, input_);
  memory weights(Primitives::weights(shape, strips_), p.engine, panel_.data());
  memory destination(Primitives::destination(shape), p.engine, out);
  product.execute(
      p.stream, {{DNNL_ARG_SRC, source}, {DNNL_ARG_WEIGHTS, weights}, {DNNL_ARG_DST, destination}});
  p.stream.wait();
}

void PromptProducts::store_panel(std::int64_t width, std::int64_t stride, bool add, float* out) {
#pragma omp parallel for schedule(static) num_threads(threads_)
  for (std::int64_t row = 0; row < rows_; ++row) {
    const float* from = panel_output_.data() + row * width;
    float* to = out + row * stride;
    for (std::int64_t i = 0; i < width; ++i) to[i] = add ? to[i] + from[i] : from[i];
  }
}

void PromptProducts::multiply(const PackedMatrix& weight, bool add, float* out) {
  const ThreadSetting setting(threads_);
  const std::int64_t strip_bytes = kStripRows * columns_ * (pairs_ ? 2 : 4);
  const std::int64_t strips =
      std::clamp<std::int64_t>(kPanelBytes / strip_bytes, 1, kPanelRows / kStripRows);
  const std::int64_t panel_tiles = strips * kStripTiles;
  if (weight.tiles() <= panel_tiles) return multiply_panel(weight, 0, weight.tiles(), add, out);
  panel_output_.ensure(static_cast<std::size_t>(rows_ * panel_tiles * kTileRows));
  for (std::int64_t tile = 0; tile < weight.tiles(); tile += panel_tiles) {
    const std::int64_t tiles = std::min(panel_tiles, weight.tiles() - tile);
    const std::int64_t first = tile * kTileRows;
    multiply_panel(weight, tile, tiles, false, panel_output_.data());
    store_panel(std::min(tiles * kTileRows, weight.outputs() - first), weight.outputs(), add,
                out + first);
  }
}

}  // namespace sift::cpu
