// Loads a model and continues a prompt under an attention policy, printing text as it comes.
//
//   generate_with_policy MODEL.gguf "The capital of France is" sift:tau=0.9

#include <cstdio>
#include <exception>

#include "sift/core/threads.h"
#include "sift/engine/engine.h"
#include "sift/tokenizer/tokenizer.h"

int main(int argc, char** argv) try {
  if (argc != 4) {
    std::fprintf(stderr, "usage: %s MODEL PROMPT POLICY\n", argv[0]);
    return 2;
  }
  sift::EngineOptions options;
  options.model_path = argv[1];
  options.threads = sift::default_thread_count();
  sift::Engine engine(options);

  sift::GenerationRequest request;
  request.prompt = engine.tokenizer().encode_prompt(argv[2], sift::ParseSpecial::yes);
  request.policy = sift::parse_policy(argv[3]);
  request.max_tokens = 64;
  const auto result = engine.generate(request, [](const sift::GeneratedToken& token) {
    std::fputs(token.text.c_str(), stdout);
    return std::fflush(stdout) == 0;  // false ends generation
  });

  const sift::AttentionStatistics attention = result.attention.summary();
  std::printf("\n%s: %lld of %lld V bytes read, realised sparsity %.3f\n",
              request.policy.name.c_str(), static_cast<long long>(attention.v_bytes_read),
              static_cast<long long>(attention.v_bytes_dense),
              attention.realised_sparsity.value_or(0));
  return 0;
} catch (const std::exception& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
