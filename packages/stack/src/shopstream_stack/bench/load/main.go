// Command load drives an HTTP server and prints what came of it as JSON.
//
//	load http < spec.json
//	load sse < spec and orders, a line of JSON each
//
// `http` holds N connections, each with one request under way (a closed loop), first for a warm-up
// and then for the measured time. Times are taken around each request and kept, not sampled, so
// percentiles are exact. A request is sent once: nothing is retried.
//
// `sse` holds N event streams open, checks all that comes on them, and answers each order with one
// report: see stream_spec.go. It ends with an error if anything was missed.
package main

import (
	"encoding/json"
	"fmt"
	"os"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(arguments []string) error {
	if len(arguments) == 1 && arguments[0] == "sse" {
		return driveStreams(os.Stdin, os.Stdout)
	}
	if len(arguments) != 1 || arguments[0] != "http" {
		return fmt.Errorf("usage: load http < spec.json, or load sse < spec and orders")
	}
	var spec Spec
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&spec); err != nil {
		return fmt.Errorf("the spec cannot be read: %w", err)
	}
	report, err := drive(&spec)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(report)
}
