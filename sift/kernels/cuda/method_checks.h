#pragma once

#include "sift/attention/method_rules.h"
#include "sift/kernels/cuda/argument_checks.h"

namespace sift::cuda {

/// Refuses what the rules that run on the device cannot do, by its name.
inline void check_method(const ArgumentChecks& checks, const MethodOptions& options) {
  if (const char* choice = host_only_choice(options)) {
    checks.refuse(
        "the method has ", choice,
        ", which runs on the CPU only, expected fit=ols or ridge, threshold=softmax and a "
        "warmup that is a number");
  }
}

}  // namespace sift::cuda
