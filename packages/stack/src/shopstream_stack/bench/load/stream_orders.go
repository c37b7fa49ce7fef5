package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"
)

func decodeStrictly(line []byte, into any) error {
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	return decoder.Decode(into)
}

func (r *streamRun) obey(order *Order) error {
	switch order.Do {
	case "begin":
		r.begin()
	case "settle":
		return r.settle(order)
	case "cut":
		r.cut(order.Connections)
	case "stall":
		for _, one := range r.streams[len(r.streams)-r.spec.Slow:] {
			one.stalled.Store(true)
		}
	case "release":
		for _, one := range r.streams {
			one.stalled.Store(false)
		}
		r.releaseMutex.Lock()
		close(r.release)
		r.release = make(chan struct{})
		r.releaseMutex.Unlock()
	default:
		return fmt.Errorf("there is no order %q", order.Do)
	}
	return nil
}

// begin forgets the figures; what each connection has had stays known, and the named events: of most
// streams the first says how they began.
func (r *streamRun) begin() {
	for _, one := range r.shards {
		one.mutex.Lock()
		r.missed = r.missed || one.misses > 0
		controls := one.controls
		one.tally = newTally()
		one.controls = controls
		one.mutex.Unlock()
	}
	for i, one := range r.streams {
		one.shard.mutex.Lock()
		one.kind = steady
		if i >= r.spec.Connections-r.spec.Slow {
			one.kind = slow
		}
		one.shard.mutex.Unlock()
	}
	r.began, r.beganProcessor = time.Now(), processorSeconds()
}

// cut resets the first connections, as a network does that is gone; each comes back by itself.
func (r *streamRun) cut(connections int) {
	for _, one := range r.streams[:min(connections, len(r.streams))] {
		one.shard.mutex.Lock()
		one.kind = cut
		one.cutAt = time.Now().UnixMicro()
		one.dropped.Store(true)
		one.shard.mutex.Unlock()
		if from := one.socket.Load(); from != nil {
			from.close()
		}
	}
}

// settle waits until every connection that reads has had what is expected of its group, then
// compares in full.
func (r *streamRun) settle(order *Order) error {
	expected := make([][]span, len(r.spec.Groups))
	totals := make([]int64, len(r.spec.Groups))
	for group, named := range r.spec.Groups {
		for name, ends := range order.Expected[named.Name] {
			key := r.keys[group].of(name)
			if key < 0 || ends[0] == 0 || ends[1] < ends[0] {
				return fmt.Errorf("expected %q: %v makes no sense", name, ends)
			}
			for len(expected[group]) <= key {
				expected[group] = append(expected[group], span{})
			}
			expected[group][key] = span{ends[0], ends[1]}
			totals[group] += int64(ends[1]-ends[0]) + 1
		}
	}
	if order.Expected == nil {
		return nil
	}
	ends := time.Now().Add(duration(order.SecondsMax))
	for !r.allHave(totals) && time.Now().Before(ends) {
		time.Sleep(settlePoll)
	}
	for _, one := range r.streams {
		if one.stalled.Load() {
			continue
		}
		one.shard.mutex.Lock()
		lost, foreign, first := one.missing(expected[one.group])
		one.shard.lost += lost
		one.shard.foreign += foreign
		if first != "" {
			one.shard.fault("%s", first)
		}
		if one.cutAt != 0 {
			one.shard.fault("stream %d: it did not come back", one.index)
		}
		one.shard.mutex.Unlock()
	}
	return nil
}

func (r *streamRun) allHave(totals []int64) bool {
	for _, one := range r.streams {
		if one.stalled.Load() {
			continue
		}
		one.shard.mutex.Lock()
		has := one.delivered >= totals[one.group] && one.cutAt == 0
		one.shard.mutex.Unlock()
		if !has {
			return false
		}
	}
	return true
}

func (r *streamRun) report() *StreamReport {
	all := newTally()
	for _, one := range r.shards {
		one.mutex.Lock()
		all.add(&one.tally)
		one.mutex.Unlock()
	}
	r.missed = r.missed || all.misses > 0
	report := &StreamReport{
		Open:             int(r.open.Load()),
		Opened:           r.opened.Load(),
		Closed:           r.closed.Load(),
		Refused:          r.refused.Load(),
		Reconnect:        r.reconnects.Load(),
		Deliveries:       all.deliveries,
		Others:           all.others,
		Bytes:            all.bytes,
		Ids:              all.ids,
		Comments:         all.comments,
		Controls:         all.controls,
		Steady:           all.latencies[steady].latency(),
		Cut:              all.latencies[cut].latency(),
		Slow:             all.latencies[slow].latency(),
		Resumed:          all.resumed.latency(),
		Lost:             all.lost,
		Doubled:          all.doubled,
		Foreign:          all.foreign,
		Misses:           all.misses,
		Faults:           all.faults,
		ProcessorSeconds: processorSeconds() - r.beganProcessor,
		WallSeconds:      time.Since(r.began).Seconds(),
	}
	if r.plain {
		report.Seconds = report.WallSeconds
	} else if all.deliveries > 0 {
		report.Seconds = float64(all.lastAt-all.firstAt) / 1e6
	}
	if report.Misses == 0 && report.Seconds > 0 {
		rate := float64(report.Deliveries) / report.Seconds
		report.PerSecond = &rate
	}
	return report
}

func (t *tally) add(other *tally) {
	t.deliveries += other.deliveries
	t.others += other.others
	t.bytes += other.bytes
	t.ids += other.ids
	t.comments += other.comments
	t.lost += other.lost
	t.doubled += other.doubled
	t.foreign += other.foreign
	t.misses += other.misses
	t.firstAt = min(t.firstAt, other.firstAt)
	t.lastAt = max(t.lastAt, other.lastAt)
	for name, count := range other.controls {
		t.controls[name] += count
	}
	for kind := range t.latencies {
		t.latencies[kind].merge(&other.latencies[kind])
	}
	t.resumed.merge(&other.resumed)
	for _, fault := range other.faults {
		if len(t.faults) < faultsMax {
			t.faults = append(t.faults, fault)
		}
	}
}
