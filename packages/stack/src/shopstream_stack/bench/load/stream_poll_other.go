//go:build !linux

package main

// poller is Linux's; elsewhere each connection has a goroutine that reads.
type poller struct{}

func newPollers(*streamRun) []*poller { return nil }

func (s *stream) poller(*streamRun) *poller { return nil }

func (s *stream) pumpPolled(*socket, *poller) error { return nil }

func (p *poller) forget(int) {}
