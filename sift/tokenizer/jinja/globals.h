#pragma once

#include "sift/tokenizer/jinja/interpreter.h"

namespace sift::jinja {

/// What templates find beside their variables: range, dict, namespace, raise_exception,
/// strftime_now.
Variables global_functions();

}  // namespace sift::jinja
