// Data of any bytes is either refused with Error, for every task, or gives samples with a question
// each whose documents can be read again.

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "sift/core/error.h"
#include "sift/eval/json_documents.h"
#include "sift/eval/task.h"

namespace {

void check(const sift::TaskDefinition& definition, const std::string& text) {
  sift::Task task;
  try {
    const std::int64_t shots = definition.takes_examples ? 1 : 0;
    task = sift::load_task(definition, {"data", text}, shots, {"examples", text});
  } catch (const sift::Error& error) {
    if (error.kind() != sift::ErrorKind::bad_file) std::abort();
    return;
  }
  // From here on nothing is refused: an exception ends the run.
  for (const sift::TaskSample& sample : task.samples) {
    if (sample.turns.back().content.empty()) std::abort();
    sift::parse_json_object(sample.document, "document");
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string text(reinterpret_cast<const char*>(data), size);
  for (const sift::TaskDefinition& definition : sift::task_definitions()) check(definition, text);
  return 0;
}
