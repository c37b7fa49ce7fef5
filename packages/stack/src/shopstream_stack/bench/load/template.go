package main

import (
	"fmt"
	"strconv"
	"strings"
)

// A template is text with placeholders: {{n}} is the request's number, unique in a run;
// {{name}} a value of the list of that name. Values of one list within one request follow each
// other in the list, so they differ; where they begin is scattered over the list.
type template struct {
	texts []string // around the placeholders, one more than these
	lists [][]string
}

func parse(text string, lists map[string][]string) (template, error) {
	var parsed template
	for {
		before, rest, found := strings.Cut(text, "{{")
		parsed.texts = append(parsed.texts, before)
		if !found {
			return parsed, nil
		}
		name, after, closed := strings.Cut(rest, "}}")
		if !closed {
			return parsed, fmt.Errorf("a placeholder does not end: %q", text)
		}
		values := lists[name]
		if name != "n" && len(values) == 0 {
			return parsed, fmt.Errorf("there is no list %q, or it is empty", name)
		}
		if name == "n" {
			values = nil
		}
		parsed.lists = append(parsed.lists, values)
		text = after
	}
}

// fill appends the text of request n to buffer.
func (t *template) fill(buffer []byte, n int64) []byte {
	next := scatter(uint64(n))
	for i, values := range t.lists {
		buffer = append(buffer, t.texts[i]...)
		if values == nil {
			buffer = strconv.AppendInt(buffer, n, 10)
		} else {
			buffer = append(buffer, values[next%uint64(len(values))]...)
			next++
		}
	}
	return append(buffer, t.texts[len(t.lists)]...)
}

// scatter is one step of splitmix64: consecutive numbers give unrelated ones, the same each run.
func scatter(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9
	n = (n ^ (n >> 27)) * 0x94d049bb133111eb
	// One bit less, so that the few steps after it do not overflow.
	return (n ^ (n >> 31)) >> 1
}
