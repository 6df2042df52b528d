#pragma once

namespace sift::cli {

/// Makes waiting threads give up their processor soon. libgomp's default lets them spin for
/// milliseconds, which collapses the speed of generation as soon as anything else runs (25 instead
/// of 310 tokens/s beside one busy process, docs/decisions). libgomp reads its settings before
/// main(), so the program starts itself once more with them; what the user has set stays.
void bound_waiting(char** argv);

}  // namespace sift::cli
