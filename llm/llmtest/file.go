package llmtest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/mcpagent/mcpagent/llm"
)

// Open reads a script from a file; see [Parse].
func Open(path string) (*Script, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open a script: %w", err)
	}
	return Parse(path, b)
}

// Parse reads a script in YAML: a list of answers, or of scenes with theirs.
// The name is for errors, which tell line and column.
//
//   - system: You proofread          # words of the instruction that the scene is for
//     user: Grade this               # words of the first message that it is for
//     answers:
//   - reasoning: I need the text.
//     text: Let me look.
//     calls:                     # in parallel; a text in place of arguments is what the model wrote instead
//   - read_file: {path: story.md}
//   - read_file: {path: notes.md}
//   - error: {class: rate_limit, status: 429, message: slow down, retry_after: 2s}
//   - error: overloaded          # for short
//   - when: no such file         # whenever the message that is answered has these words
//     text: The file is not there.
//   - json: {grade: 4}           # the text, for a request with a schema
//     delay: 1s                  # before it
//     pace: 30ms                 # between the pieces of a stream
//     stop: length
//     usage: {input: 20, output: 7, cache_read: 12}
//     always: true               # in all later turns too
func Parse(name string, text []byte) (*Script, error) {
	d := yaml.NewDecoder(bytes.NewReader(text), yaml.Strict())
	var items []item
	if err := d.Decode(&items); err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: %s", name, strings.TrimSpace(yaml.FormatError(err, false, true)))
	}
	if len(items) == 0 {
		return nil, fmt.Errorf("%s: the script is empty: write a list of answers", name)
	}
	var scenes []Scene
	var own []Answer // answers that are in no scene
	for i, it := range items {
		if it.Answers == nil {
			if it.System != "" || it.User != "" {
				return nil, fmt.Errorf("%s: item %d has words of a scene, and no answers", name, i+1)
			}
			a, err := it.Said.answer()
			if err != nil {
				return nil, fmt.Errorf("%s: answer %d: %w", name, i+1, err)
			}
			own = append(own, a)
			continue
		}
		if !it.bare() {
			return nil, fmt.Errorf("%s: scene %d says something itself: write it into its answers", name, i+1)
		}
		s := Scene{System: it.System, User: it.User}
		for j, said := range it.Answers {
			a, err := said.answer()
			if err != nil {
				return nil, fmt.Errorf("%s: scene %d, answer %d: %w", name, i+1, j+1, err)
			}
			s.Answers = append(s.Answers, a)
		}
		scenes = append(scenes, s)
	}
	if len(own) > 0 {
		scenes = append(scenes, Scene{Answers: own})
	}
	return NewScenes(scenes...), nil
}

// item is an answer, or a scene.
type item struct {
	System  string   `yaml:"system"`
	User    string   `yaml:"user"`
	Answers []spoken `yaml:"answers"`
	Said    spoken   `yaml:",inline"`
}

func (it item) bare() bool {
	s := it.Said
	return s.When == "" && s.Text == "" && s.Reasoning == "" && s.Calls == nil && s.JSON == nil && s.Error == nil && !s.Always
}

type spoken struct {
	When      string           `yaml:"when"`
	Always    bool             `yaml:"always"`
	Reasoning string           `yaml:"reasoning"`
	Text      string           `yaml:"text"`
	JSON      any              `yaml:"json"`
	Calls     []map[string]any `yaml:"calls"`
	Error     *failure         `yaml:"error"`
	Delay     time.Duration    `yaml:"delay"`
	Pace      time.Duration    `yaml:"pace"`
	Stop      llm.StopReason   `yaml:"stop"`
	Usage     struct {
		Input      int64 `yaml:"input"`
		Output     int64 `yaml:"output"`
		CacheRead  int64 `yaml:"cache_read"`
		CacheWrite int64 `yaml:"cache_write"`
		Reasoning  int64 `yaml:"reasoning"`
	} `yaml:"usage"`
}

type failure struct {
	Class      llm.Class     `yaml:"class"`
	Status     int           `yaml:"status"`
	Code       string        `yaml:"code"`
	Message    string        `yaml:"message"`
	RetryAfter time.Duration `yaml:"retry_after"`
}

// UnmarshalYAML reads the class alone, too.
func (f *failure) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&f.Class) == nil {
		return nil
	}
	type all failure
	return unmarshal((*all)(f))
}

var classes = []llm.Class{
	llm.Invalid, llm.TooLong, llm.Auth, llm.Permission, llm.NotFound, llm.Quota, llm.RateLimit, llm.Overloaded, llm.Server, llm.Network,
	llm.Filter, llm.Malformed,
}

func (s spoken) answer() (Answer, error) {
	a := Answer{
		When: s.When, Always: s.Always, Reasoning: s.Reasoning, Text: s.Text, Delay: s.Delay, Pace: s.Pace, Stop: s.Stop,
		Usage: llm.Usage{Input: s.Usage.Input, Output: s.Usage.Output, CacheRead: s.Usage.CacheRead, CacheWrite: s.Usage.CacheWrite, Reasoning: s.Usage.Reasoning},
	}
	if s.JSON != nil {
		if s.Text != "" {
			return a, fmt.Errorf("it has text and json: one of them is the answer")
		}
		b, err := json.Marshal(s.JSON)
		if err != nil {
			return a, fmt.Errorf("the json: %w", err)
		}
		a.Text = string(b)
	}
	for i, call := range s.Calls {
		if len(call) != 1 {
			return a, fmt.Errorf("call %d has %d names, want one: - tool: {argument: value}", i+1, len(call))
		}
		for tool, args := range call {
			switch args := args.(type) {
			case nil:
				a.Calls = append(a.Calls, toolCall(tool, "{}"))
			case string:
				a.Calls = append(a.Calls, toolCall(tool, args))
			default:
				b, err := json.Marshal(args)
				if err != nil {
					return a, fmt.Errorf("the arguments of %s: %w", tool, err)
				}
				a.Calls = append(a.Calls, toolCall(tool, string(b)))
			}
		}
	}
	if f := s.Error; f != nil {
		if !slices.Contains(classes, f.Class) {
			return a, fmt.Errorf("the error has the class %q, want one of %v", f.Class, classes)
		}
		a.Error = &llm.Error{Class: f.Class, Status: f.Status, Code: f.Code, Message: f.Message, RetryAfter: f.RetryAfter}
		if f.Status == 0 {
			a.Error.Status = status[f.Class]
		}
		if f.Message == "" {
			a.Error.Message = "by the script"
		}
	}
	if s.Text == "" && s.JSON == nil && s.Reasoning == "" && len(s.Calls) == 0 && s.Error == nil && s.Stop == "" {
		return a, fmt.Errorf("it says nothing: want text, json, calls or error")
	}
	return a, nil
}
