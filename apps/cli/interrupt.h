#pragma once

namespace sift::cli {

/// From now on the first Ctrl-C asks for a clean end; a second one ends the program at once.
void catch_interrupts();

/// Whether a clean end was asked for.
bool interrupted();

/// Forgets a Ctrl-C that has been answered, and catches the next.
void clear_interrupt();

}  // namespace sift::cli
