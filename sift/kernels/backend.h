#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sift/cache/kv_cache.h"
#include "sift/core/aligned_buffer.h"
#include "sift/kernels/weights.h"

namespace sift {

/// How activations meet weights in matrix products.
enum class Compute : std::uint8_t {
  f32,   ///< float activations, weights expanded to float
  bf16,  ///< both rounded to bfloat16, sums in float
  q8,    ///< activations quantised to 8 bits per block of 32, products in integers
};

/// Rotary embedding: pairs of dimensions turn by position · frequency.
enum class RopeStyle : std::uint8_t {
  adjacent_pairs,  ///< (0, 1), (2, 3), …: GGUF's llama
  half_split,      ///< (0, n/2), (1, n/2 + 1), …: Hugging Face's layout
};
struct Rope {
  RopeStyle style = RopeStyle::adjacent_pairs;
  std::vector<float> inverse_frequencies;  ///< [rotary dimensions / 2], scaling applied
};

/// Sizes of a model that kernels need.
struct ModelShape {
  int layers = 0;
  int embedding = 0;
  int feed_forward = 0;
  int heads = 0;
  int kv_heads = 0;
  int head_dim = 0;
  int vocabulary = 0;
  float norm_epsilon = 0;
  Rope rope;

  AttentionShape attention() const { return {layers, heads, kv_heads, head_dim}; }
};

/// Consecutive rows of one sequence inside a batch.
struct Segment {
  Sequence* sequence = nullptr;
  std::int64_t row_begin = 0;  ///< first row in the batch
  std::int64_t row_count = 0;
  /// The first of them that are prompt rows (dense); the rest are generated rows, which the policy
  /// treats.
  std::int64_t prompt_rows = 0;

  /// Identity of the segment's row `index` (from 0) as policies see it.
  RowIdentity identity(std::int64_t index) const {
    const std::int64_t generated = index < prompt_rows ? 0 : index - prompt_rows + 1;
    return {sequence->length() + index + 1, generated == 0 ? 0 : sequence->generated() + generated};
  }
};

/// The rows of one forward pass. Their keys and values are appended behind what each sequence has
/// cached; the caller reserves before and commits after.
struct Batch {
  std::span<const std::int32_t> tokens;  ///< [rows]
  std::span<const Segment> segments;
  /// Whether matrix products run as generation does, row by row from the packed weights, or as
  /// prompt processing does, by matrix-matrix products. Results differ in rounding only.
  bool decode = false;

  std::int64_t rows() const { return static_cast<std::int64_t>(tokens.size()); }
};

/// Activations of one forward pass. Rows are contiguous.
struct Activations {
  AlignedBuffer<float> hidden;    ///< [rows, embedding]: the residual stream
  AlignedBuffer<float> query;     ///< [rows, heads · head_dim], rotated, not scaled
  AlignedBuffer<float> attended;  ///< [rows, heads · head_dim]

  void ensure(const ModelShape& shape, std::int64_t rows);
};

/// The kernel seam: the coarse operations that the forward pass is made of. A backend is a folder
/// beside this file; finer operations are its own business.
///
/// One backend serves one model and one forward pass at a time.
class Backend {
 public:
  virtual ~Backend() = default;

  virtual std::string name() const = 0;     ///< "reference", "cpu"
  virtual std::string compute() const = 0;  ///< what runs: "f32", "q8 (prompt bf16)"

  /// Throws Error (invalid_argument) for a policy that this backend cannot decode with.
  virtual void check_decode(const Policy& policy) const = 0;

  /// Takes a matrix into the form that this backend multiplies with. Returns whether
  /// `weight.source` is no longer read.
  virtual bool prepare(Weight& weight) = 0;

  /// hidden[row] = table[tokens[row]].
  virtual void embed(const Weight& table, const Batch& batch, Activations& activations) = 0;

  /// RMS norm of hidden, projections to query, key and value, rotation of query and key; keys and
  /// values go to the cache of each row's sequence (and V to the running sums), queries to
  /// activations.query.
  virtual void norm_project_rope_append(const LayerWeights& weights, int layer, const Batch& batch,
                                        Activations& activations) = 0;

  /// activations.attended = attention of each row's query over its sequence's visible keys, by the
  /// sequence's policy: threshold, attend, observe. Throws Error (numerical) naming layer and head
  /// at a NaN or +Inf score or a row without a finite one.
  virtual void attend(int layer, const Batch& batch, Activations& activations) = 0;

  /// hidden += attended · weightᵀ.
  virtual void project_add(const Weight& weight, Activations& activations, const Batch& batch) = 0;

  /// hidden += down(silu(gate(x)) · up(x)) with x = RMS norm of hidden.
  virtual void norm_gated_feed_forward(const LayerWeights& weights, Activations& activations,
                                       const Batch& batch) = 0;

  /// Logits of the chosen rows of hidden: out [rows.size(), vocabulary].
  virtual void logits(const std::vector<float>& norm, const Weight& output,
                      const Activations& activations, const Batch& batch,
                      std::span<const std::int64_t> rows, std::span<float> out) = 0;
};

struct BackendOptions {
  Compute compute = Compute::f32;
  int threads = 1;
};

/// Scalar, in double where it matters: the oracle that other backends are compared with.
std::unique_ptr<Backend> make_reference_backend(const ModelShape& shape);

/// Throws Error (invalid_argument) when this processor lacks what `compute` needs.
std::unique_ptr<Backend> make_cpu_backend(const ModelShape& shape, const BackendOptions& options);

}  // namespace sift
