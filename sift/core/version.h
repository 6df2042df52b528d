#pragma once

namespace sift {

/// What this library was built from and with. Every string lives as long as the program.
struct BuildInformation {
  const char* version;   ///< semantic version, "0.1.0"
  const char* commit;    ///< abbreviated hash, "-dirty" appended if changed; "unknown" without git
  const char* compiler;  ///< name and version, "GNU 12.2.0"
  const char* build_type;  ///< "Release", "RelWithDebInfo", …
};

BuildInformation build_information();

}  // namespace sift
