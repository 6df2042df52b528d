// Policy strings of any bytes are either refused with Error, or name a policy whose canonical name
// names the same policy again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "sift/attention/policy.h"
#include "sift/core/error.h"

namespace {

void check(std::string_view text) {
  sift::Policy policy;
  try {
    policy = sift::parse_policy(text);
  } catch (const sift::Error& error) {
    if (error.kind() != sift::ErrorKind::invalid_argument) std::abort();
    return;
  }
  // From here on nothing is refused: an exception ends the run.
  if (sift::parse_policy(policy.name) != policy) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  check({reinterpret_cast<const char*>(data), size});
  return 0;
}
