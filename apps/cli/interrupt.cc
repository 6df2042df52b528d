#include "apps/cli/interrupt.h"

#include <csignal>

namespace sift::cli {
namespace {

volatile std::sig_atomic_t interrupt_asked = 0;

void on_interrupt(int) { interrupt_asked = 1; }

}  // namespace

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;
  action.sa_flags = static_cast<int>(SA_RESETHAND);
  sigaction(SIGINT, &action, nullptr);
}

bool interrupted() { return interrupt_asked != 0; }

void clear_interrupt() {
  interrupt_asked = 0;
  catch_interrupts();
}

}  // namespace sift::cli
