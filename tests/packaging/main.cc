// A stranger's program: every installed header compiles, and the library links and runs.
#include <cstdio>

#include "all_headers.h"

int main() {
  const sift::BuildInformation build = sift::build_information();
  std::printf("sift %s, %s\n", build.version, build.compiler);
  return build.version[0] == '\0';
}
