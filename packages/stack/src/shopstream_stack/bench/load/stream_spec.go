package main

import (
	"errors"
	"fmt"
	"slices"
	"syscall"
)

const (
	connectionsMax = 50_000
	pollersMax     = 64
	// Descriptors of the program itself.
	ownDescriptors = 50
)

// StreamSpec says what streams to hold open.
type StreamSpec struct {
	Address     string            `json:"address"` // host:port
	Secure      bool              `json:"secure"`  // TLS, with the system's certificates
	Host        string            `json:"host"`    // the Host header; the address when empty
	Headers     map[string]string `json:"headers"`
	Connections int               `json:"connections"`
	// Connection i belongs to group i modulo their number.
	Groups []StreamGroup `json:"groups"`
	// plain: counts; events: checks our events' sequences; shopstream: also ids and control events.
	Profile string `json:"profile"`
	// New connections a second; 0 = as many as the server takes.
	RampPerSecond  float64 `json:"rampPerSecond"`
	OpenSecondsMax float64 `json:"openSecondsMax"`
	// Threads that read all connections; 0: one for each processor.
	Pollers int `json:"pollers"`
	// The last so many connections can be told to stop reading.
	Slow int `json:"slow"`
	// A stream that the server ends is resumed; without, it is a fault.
	Reconnect bool `json:"reconnect"`
	// The filters thin out the sequences: a skip is no loss, only their order is checked.
	Sparse bool `json:"sparse"`
	// The member of the data, a string, whose time latencies count from; the event's when empty.
	Moment string `json:"moment"`
}

// StreamGroup is connections with one path, hence one filter.
type StreamGroup struct {
	Name string `json:"name"`
	Path string `json:"path"`
}

// Order is one line of input after the spec.
type Order struct {
	// begin, settle, cut, stall, release or stop.
	Do string `json:"do"`
	// settle: by group, by "topic subject", the first and last sequence that must have come.
	// Without, nothing is waited for.
	Expected map[string]map[string][2]uint32 `json:"expected"`
	// settle: how long to wait. Connections that are stalled are not waited for.
	SecondsMax float64 `json:"secondsMax"`
	// cut: the first so many connections.
	Connections int `json:"connections"`
}

// StreamReport answers every order: what came since the last begin.
type StreamReport struct {
	Open      int   `json:"open"`
	Opened    int64 `json:"opened"`
	Closed    int64 `json:"closed"` // by the server
	Refused   int64 `json:"refused"`
	Reconnect int64 `json:"reconnected"`
	// Events with data and without a name, and what else came.
	Deliveries int64            `json:"deliveries"`
	Others     int64            `json:"others"` // without a name, but no events of ours
	Bytes      int64            `json:"bytes"`
	Ids        int64            `json:"ids"`
	Comments   int64            `json:"comments"`
	Controls   map[string]int64 `json:"controls"` // by name, since the start
	// From the first event's time to the last byte's arrival.
	Seconds float64 `json:"seconds"`
	// None after a miss: a rate of what did not all come says nothing.
	PerSecond *float64 `json:"deliveriesPerSecond"`
	Steady    Latency  `json:"steady"`
	Cut       Latency  `json:"cut"`
	Slow      Latency  `json:"slow"`
	// From the cut until a connection had an event that is younger than its new connection.
	Resumed Latency `json:"resumed"`
	// Sequences that were skipped, came again, or that the filter should have kept back.
	Lost    int64 `json:"lost"`
	Doubled int64 `json:"doubled"`
	Foreign int64 `json:"foreign"`
	// Everything that voids the figures, the first few in words.
	Misses int64    `json:"misses"`
	Faults []string `json:"faults"`
	// Of this program since begin, and since its start.
	ProcessorSeconds float64 `json:"processorSeconds"`
	WallSeconds      float64 `json:"wallSeconds"`
}

func (spec *StreamSpec) check() error {
	switch {
	case spec.Address == "":
		return errors.New("the spec has no address")
	case spec.Connections < 1 || spec.Connections > connectionsMax:
		return fmt.Errorf("connections must be 1 to %d", connectionsMax)
	case len(spec.Groups) == 0:
		return errors.New("the spec has no groups")
	case !slices.Contains([]string{"plain", "events", "shopstream"}, spec.Profile):
		return errors.New("the profile must be plain, events or shopstream")
	case spec.Slow < 0 || spec.Slow > spec.Connections:
		return errors.New("slow must be 0 to the number of connections")
	case spec.Pollers < 0 || spec.Pollers > pollersMax:
		return fmt.Errorf("pollers must be 0 to %d; 0 is one for each processor", pollersMax)
	case spec.OpenSecondsMax <= 0:
		return errors.New("openSecondsMax must be above 0")
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err == nil {
		// Go has raised the soft limit to the hard one by now.
		if uint64(spec.Connections+ownDescriptors) > uint64(limit.Cur) {
			return fmt.Errorf("%d connections need that many descriptors and %d more, the limit"+
				" is %d; raise it (ulimit -Hn)", spec.Connections, ownDescriptors, limit.Cur)
		}
	}
	return nil
}
