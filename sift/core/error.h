#pragma once

#include <stdexcept>
#include <string>

namespace sift {

/// What went wrong, as far as a caller can act on it. The value is the exit code of the command.
enum class ErrorKind : int {
  invalid_argument = 2,  ///< an option, a prompt or a call that cannot be taken
  bad_file = 3,          ///< a model or data file that is not what it claims to be
  input_output = 4,      ///< reading, writing or printing failed
  numerical = 5,         ///< non-finite values where finite ones are needed
  interrupted = 130,     ///< stopped by the user
};

/// The one exception type that leaves this library. The message is one sentence: what was found,
/// where, and what was expected.
class Error : public std::runtime_error {
 public:
  Error(ErrorKind kind, const std::string& message) : std::runtime_error(message), kind_(kind) {}
  ErrorKind kind() const { return kind_; }

 private:
  ErrorKind kind_;
};

}  // namespace sift
