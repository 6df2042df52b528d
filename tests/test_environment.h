#pragma once

#include <cstdlib>
#include <string>

namespace sift::test {

/// Path of the default model, empty when the tests run without it.
inline std::string model_path() {
  const char* path = std::getenv("SIFT_TEST_MODEL");
  return path == nullptr ? "" : path;
}

/// Folder of test data (docs/testing.md), empty when the tests run without it.
inline std::string data_folder() {
  const char* path = std::getenv("SIFT_TEST_DATA");
  return path == nullptr ? "" : path;
}

}  // namespace sift::test

#define SIFT_REQUIRE_MODEL() \
  if (sift::test::model_path().empty()) GTEST_SKIP() << "SIFT_TEST_MODEL names no model"
#define SIFT_REQUIRE_DATA() \
  if (sift::test::data_folder().empty()) GTEST_SKIP() << "SIFT_TEST_DATA names no folder"
