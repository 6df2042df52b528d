#pragma once

#include "sift/kernels/backend.h"
#include "sift/kernels/weights.h"
#include "sift/model/gguf.h"
#include "sift/model/model_config.h"

namespace sift {

/// Finds every weight of the model; matrices stay in the file (`Weight::source`), norms are copied.
/// Throws Error{bad_file} for a tensor that is missing, of another shape or type than the
/// configuration asks for, or unknown: what is not understood is not ignored.
ModelWeights find_weights(const Gguf& gguf, const ModelConfig& config);

/// The configuration as kernels take it, with the rotary frequencies worked out. Throws
/// Error{bad_file} for a bad table of frequency factors.
ModelShape make_shape(const Gguf& gguf, const ModelConfig& config);

/// Throws Error{bad_file} that names the first tensor (in the file's order) with a NaN or an
/// infinity, and the index of the value.
void check_finite(const Gguf& gguf);

}  // namespace sift
