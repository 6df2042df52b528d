#include "apps/cli/waiting.h"

#include <unistd.h>

#include <cstdlib>

namespace sift::cli {

void bound_waiting(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") != nullptr || std::getenv("OMP_WAIT_POLICY") != nullptr) return;
  // About a tenth of a millisecond: longer than any pause between the parallel parts of a step.
  if (setenv("GOMP_SPINCOUNT", "10000", 1) != 0) return;
  execv("/proc/self/exe", argv);  // comes back only if it failed; then the default holds
}

}  // namespace sift::cli
