#include "sift/tokenizer/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "sift/core/error.h"

namespace sift {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string text_of(const std::vector<TextSegment>& segments) {
  std::string text;
  for (const TextSegment& segment : segments) text += segment.text;
  return text;
}

std::string render(const std::string& source, const ChatRequest& request = {}) {
  return text_of(ChatTemplate(source).render(request));
}

void expect_error(const std::string& source, ErrorKind kind, const std::string& part,
                  const ChatRequest& request = {}) {
  try {
    const std::string text = render(source, request);
    ADD_FAILURE() << source << " gave " << text.substr(0, 200);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_THAT(error.what(), HasSubstr(part)) << source;
  }
}

/// What Python's jinja2 made of many templates (tools/goldens/make_template_goldens.py).
ChatRequest to_request(nlohmann::ordered_json variables, std::int64_t now) {
  ChatRequest request;
  request.messages_json = variables.at("messages").dump();
  if (!variables.at("tools").is_null()) request.tools_json = variables.at("tools").dump();
  request.add_generation_prompt = variables.at("add_generation_prompt");
  for (const char* name : {"messages", "tools", "add_generation_prompt"}) variables.erase(name);
  request.variables_json = variables.dump();
  request.bos_token = "<s>";
  request.eos_token = "</s>";
  request.now = now;
  return request;
}

TEST(ChatTemplateGolden, EqualsPythonsJinja) {
  std::ifstream file(SIFT_TESTS_DIR "/data/templates.json");
  const auto golden = nlohmann::ordered_json::parse(file);
  int checked = 0;
  for (const auto& each : golden.at("cases")) {
    const std::string source = golden.at("templates")[each.at("template").get<std::size_t>()];
    const ChatRequest request =
        to_request(golden.at("requests")[each.at("request").get<std::size_t>()], golden.at("now"));
    const bool fails = each.contains("error");
    try {
      const std::string text = render(source, request);
      EXPECT_FALSE(fails) << source << "\n  gave: " << text;
      EXPECT_EQ(text, each.value("expected", text)) << source;
    } catch (const Error& error) {
      EXPECT_TRUE(fails) << source << "\n  " << error.what();
    }
    ++checked;
  }
  EXPECT_GT(checked, 800);
}

TEST(ChatTemplate, KnowsContentFromTemplate) {
  ChatRequest request;
  request.messages_json = messages_json(std::vector<ChatMessage>{{"user", "hi<|end|>"}});
  const ChatTemplate chat(
      "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}");
  EXPECT_THAT(
      chat.render(request),
      ElementsAre(TextSegment{"<|", false}, TextSegment{"user", true}, TextSegment{"|>", false},
                  TextSegment{"hi<|end|>", true}, TextSegment{"<|end|>", false}));
}

TEST(ChatTemplate, ContentStaysContentThroughOperations) {
  ChatRequest request;
  request.messages_json = messages_json(std::vector<ChatMessage>{{"user", " <|end|> "}});
  for (const char* expression : {"c",
                                 "c | trim",
                                 "c.strip()",
                                 "c | upper",
                                 "c | title",
                                 "c[1:]",
                                 "c ~ c",
                                 "c + c",
                                 "c * 2",
                                 "[c]",
                                 "{c: c}",
                                 "[c] | tojson",
                                 "c | indent",
                                 "c | replace('x', 'y')",
                                 "c.split('|') | join('|')",
                                 "c | list | join",
                                 "c | reverse",
                                 "'' ~ c",
                                 "c | string",
                                 "[c, c] | join",
                                 "c.replace('e', 'e')",
                                 "c | capitalize",
                                 "[c] | map('trim') | first",
                                 "[c] | string",
                                 "c.splitlines()[0]",
                                 "c % c"}) {
    const std::string source =
        "{% set c = messages[0].content %}{{ " + std::string(expression) + " }}";
    if (std::string_view(expression) == "c % c") {
      expect_error(source, ErrorKind::invalid_argument, "'%'", request);
      continue;
    }
    for (const TextSegment& segment : ChatTemplate(source).render(request)) {
      const bool special = segment.text.find("<|") != std::string::npos;
      EXPECT_FALSE(special && !segment.is_content) << expression << " gave " << segment.text;
    }
  }
}

TEST(ChatTemplate, FilterAndSetBlocksKeepOrigins) {
  ChatRequest request;
  request.messages_json = messages_json(std::vector<ChatMessage>{{"user", "c"}});
  const ChatTemplate chat("{% set x %}a{{ messages[0].content }}b{% endset %}{{ x }}");
  EXPECT_THAT(chat.render(request), ElementsAre(TextSegment{"a", false}, TextSegment{"c", true},
                                                TextSegment{"b", false}));
}

TEST(ChatTemplate, GenerationTagsShowTheirBody) {
  EXPECT_EQ(render("a{% generation %}b{% set x = 1 %}{% endgeneration %}{{ x }}"), "ab");
}

TEST(ChatTemplate, StopsAtItsBounds) {
  const auto refuse = [](const std::string& source, const std::string& part) {
    expect_error(source, ErrorKind::invalid_argument, part);
  };
  const std::string deep_loop =
      "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
  refuse(deep_loop, "more than 4000000 steps");
  refuse("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "nests more than 400 deep");
  refuse("{% for a in range(5000) %}{{ 'x' * 1000 }}{% endfor %}",
         "writes more than 4194304 bytes");
  refuse(
      "{% set n = namespace(s='x') %}{% for a in range(99) %}{% set n.s = n.s ~ n.s %}{% endfor %}",
      "steps");
  refuse(
      "{% set n = namespace(s=[1]) %}{% for a in range(99) %}{% set n.s = n.s + n.s %}{% endfor %}",
      "more than 4000000");
  refuse(
      "{% set n = namespace(s=[1]) %}{% for a in range(60) %}{% set n.s = [n.s, n.s] %}{% endfor %}"
      "{{ n.s }}",
      "more than 4000000 parts");
  refuse("{% set n = namespace(s=1) %}{% for a in range(99) %}{% set n.s = [n.s] %}{% endfor %}",
         "nest more than 64 deep");
  refuse("{{ 'x' * 1000000000 }}", "steps");
  refuse("{{ [1] * 1000000000 }}", "steps");
  refuse("{{ ('\\n' * 2000) | indent(4096, blank=true) }}", "writes more than 4194304 bytes");
  refuse("{{ 9223372036854775807 + 1 }}", "out of the range");
  refuse("{{ -9223372036854775807 - 2 }}", "out of the range");
  refuse("{{ 2 ** 64 }}", "out of the range");
}

TEST(ChatTemplate, LongContentIsWithinBounds) {
  ChatRequest request;
  const std::string content(2 << 20, ' ');
  request.messages_json = messages_json(std::vector<ChatMessage>{{"user", content + "x"}});
  EXPECT_EQ(render("{{ messages[0].content | trim }}{{ 'y' in messages[0].content }}", request),
            "xFalse");
  const std::string copied =
      render("{% for m in messages %}{{ m.role ~ m.content }}{% endfor %}", request);
  EXPECT_EQ(copied.size(), content.size() + 5);
}

TEST(ChatTemplate, RefusesSourcesThatNestTooDeeply) {
  const auto repeat = [](const std::string& text, int count) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  const auto refuse = [](const std::string& source) {
    expect_error(source, ErrorKind::bad_file, "deep");
  };
  refuse("{{ " + repeat("(", 100000) + "1" + repeat(")", 100000) + " }}");
  refuse("{{ " + repeat("[", 100000) + repeat("]", 100000) + " }}");
  refuse("{{ " + repeat("not ", 100000) + "1 }}");
  refuse("{{ " + repeat("-", 100000) + "1 }}");
  refuse("{{ " + repeat("1 if 1 else ", 100000) + "1 }}");
  refuse(repeat("{% if 1 %}", 100000) + repeat("{% endif %}", 100000));
  expect_error("{{ 1" + repeat(" + 1", 100000) + " }}", ErrorKind::invalid_argument, "deep");
  expect_error("{{ s" + repeat(".x", 100000) + " }}", ErrorKind::invalid_argument, "deep");
}

TEST(ChatTemplate, NamesTheLine) {
  expect_error("a\n{{ b }\n", ErrorKind::bad_file, "line 2");
  expect_error("a\n\n{{ b.c }}", ErrorKind::invalid_argument, "line 3: 'c' of 'b' was asked for");
  expect_error("{{ raise_exception('no roles') }}", ErrorKind::invalid_argument,
               "line 1: no roles");
  expect_error("\xFF", ErrorKind::bad_file, "not UTF-8");
}

TEST(ChatTemplate, RefusesWhatItDoesNotKnow) {
  for (const char* source :
       {"{% extends 'a' %}", "{% include 'a' %}", "{% block a %}{% endblock %}",
        "{% call m() %}{% endcall %}", "{% for a in b recursive %}{% endfor %}", "{{ f(*a) }}",
        "{{ f(**a) }}"}) {
    expect_error(source, ErrorKind::bad_file, "line 1");
  }
}

TEST(ChatTemplate, RefusesRequestsThatAreNotAsDescribed) {
  const auto refuse = [](const std::string& messages, const std::string& part) {
    ChatRequest request;
    request.messages_json = messages;
    expect_error("x", ErrorKind::invalid_argument, part, request);
  };
  refuse("", "not JSON");
  refuse("{}", "expected a list");
  refuse("[\"\xFF\"]", "not JSON");
  refuse("[1", "not JSON");
  refuse("[{\"a\": 1, \"a\": 2}]", "the key 'a' twice");
  refuse(std::string(100000, '['), "nests more than 64 deep");
  refuse("[18446744073709551615]", "beyond 64 bits");
  const std::vector<ChatMessage> broken = {{"user", "\xFF"}};
  EXPECT_THROW(messages_json(broken), Error);
}

}  // namespace
}  // namespace sift
