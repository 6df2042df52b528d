#pragma once

#include <memory>

#include "sift/kernels/cpu/decode_input.h"
#include "sift/kernels/cpu/instruction_set.h"
#include "sift/kernels/cpu/weight_pool.h"

namespace sift::cpu {

class PromptProducts;

/// Threads, instruction set, memory for weights, and the scratch memory that the products of all
/// layers reuse. For one caller at a time.
class Workspace {
 public:
  explicit Workspace(int threads, InstructionSet instruction_set = best_instruction_set());
  ~Workspace();

  int threads() const { return threads_; }
  InstructionSet instruction_set() const { return instruction_set_; }
  WeightPool& weight_pool() { return weight_pool_; }
  DecodeInputBuffer& decode_input() { return decode_input_; }
  PromptProducts& prompt_products() { return *prompt_products_; }

 private:
  int threads_;
  InstructionSet instruction_set_;
  WeightPool weight_pool_;
  DecodeInputBuffer decode_input_;
  std::unique_ptr<PromptProducts> prompt_products_;
};

}  // namespace sift::cpu
