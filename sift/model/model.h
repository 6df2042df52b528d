#pragma once

#include <cstddef>
#include <string>

#include "sift/core/memory_map.h"
#include "sift/kernels/backend.h"
#include "sift/kernels/weights.h"
#include "sift/model/gguf.h"
#include "sift/model/model_config.h"

namespace sift {

/// A model file, open: owns the mapping that all weights and metadata point into.
class Model {
 public:
  /// Reads and checks everything but the values of the weights. Throws Error{bad_file}.
  explicit Model(const std::string& path);

  const ModelConfig& config() const { return config_; }
  const ModelShape& shape() const { return shape_; }
  const Gguf& metadata() const { return gguf_; }
  const MemoryMap& file() const { return file_; }

  /// Every weight by its role. The matrices' sources point into this model's file, so the model
  /// must outlive them.
  ModelWeights weights() const;

  /// Gives back the resident pages of a weight that is not read again.
  void release(const MatrixView& weight) const;

  /// Throws Error{bad_file} for the first non-finite weight, naming tensor and index.
  void check_finite() const;
  /// Throws Error{bad_file} when the file shrank since it was opened: what has been read since may
  /// be zeros.
  void check_intact() const { file_.check_intact(); }

 private:
  MemoryMap file_;
  Gguf gguf_;
  ModelConfig config_;
  ModelShape shape_;
};

}  // namespace sift
