// Hostile chat templates. The input is a template; if it holds a NUL, what follows is the messages
// as JSON.

#include <cstdint>
#include <string>
#include <string_view>

#include "sift/core/error.h"
#include "sift/tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const std::size_t split = input.find('\0');
  sift::ChatRequest request;
  request.messages_json =
      R"([{"role":"system","content":"Be é."},{"role":"user","content":" hi <|x|> "},)"
      R"({"role":"assistant","content":null,"tool_calls":[{"id":"a","n":[1,2.5]}]}])";
  request.tools_json = R"([{"function":{"name":"f","parameters":{"a":{"type":"string"}}}}])";
  request.bos_token = "<s>";
  request.eos_token = "</s>";
  request.now = 1750000000;
  if (split != std::string_view::npos) request.messages_json = input.substr(split + 1);
  try {
    sift::ChatTemplate(input.substr(0, split)).render(request);
  } catch (const sift::Error&) {
  }
  return 0;
}
