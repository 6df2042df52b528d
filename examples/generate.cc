// Loads a model and continues a prompt with an attention policy, printing tokens as they come:
//   example_generate MODEL.gguf sift:tau=0.9 "Once upon a time"
#include <cstdio>
#include <exception>

#include "sift/attention/policy.h"
#include "sift/core/error.h"
#include "sift/engine/engine.h"
#include "sift/tokenizer/tokenizer.h"

namespace {

void generate(const char* model_path, const char* policy, const char* prompt) {
  sift::EngineOptions options;
  options.model_path = model_path;
  sift::Engine engine(options);

  sift::GenerationRequest request;
  request.prompt = engine.tokenizer().encode_prompt(prompt, sift::ParseSpecial::yes);
  request.policy = sift::parse_policy(policy);
  request.sampling.temperature = 0;
  request.max_tokens = 64;

  std::printf("%s", prompt);
  const auto result = engine.generate(request, [](const sift::GeneratedToken& token) {
    std::fwrite(token.text.data(), 1, token.text.size(), stdout);
    std::fflush(stdout);
    return true;  // false would end the generation
  });
  std::printf("\n[%s: %lld tokens, %.1f per second]\n", request.policy.name.c_str(),
              static_cast<long long>(result.generated_tokens),
              static_cast<double>(result.generated_tokens - 1) / result.decode_seconds);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: example_generate MODEL.gguf POLICY PROMPT\n");
    return 2;
  }
  try {
    generate(argv[1], argv[2], argv[3]);
    return 0;
  } catch (const sift::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return static_cast<int>(error.kind());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
