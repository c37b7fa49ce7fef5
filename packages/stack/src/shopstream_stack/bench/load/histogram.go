package main

import "math/bits"

// A histogram of microseconds: exact below 64, then 64 steps an octave, an error of at most 1.6 %.
const (
	stepBits   = 6
	steps      = 1 << stepBits
	octavesMax = 32 // 64 microseconds times two to the 31st: a day and a half
)

type histogram struct {
	counts [steps * octavesMax]int64
	total  int64
	max    int64
}

func (h *histogram) add(micros int64) {
	micros = max(micros, 0)
	h.counts[min(bucket(micros), len(h.counts)-1)]++
	h.total++
	h.max = max(h.max, micros)
}

func (h *histogram) merge(other *histogram) {
	for i, count := range other.counts {
		h.counts[i] += count
	}
	h.total += other.total
	h.max = max(h.max, other.max)
}

// quantile is the nearest rank's bucket, its upper end, in milliseconds; 0 of nothing.
func (h *histogram) quantile(permille int64) float64 {
	rank := max((h.total*permille+999)/1000, 1)
	var below int64
	for i, count := range h.counts {
		below += count
		if below >= rank {
			return float64(min(ceiling(i), h.max)) / 1000
		}
	}
	return 0
}

func bucket(micros int64) int {
	octave := bits.Len64(uint64(micros)) - stepBits - 1
	if octave <= 0 {
		return int(micros)
	}
	return octave<<stepBits + int(micros>>octave)
}

// ceiling is the largest value of a bucket.
func ceiling(index int) int64 {
	octave := index>>stepBits - 1
	if octave <= 0 {
		return int64(index)
	}
	return int64(index-octave<<stepBits+1)<<octave - 1
}

// Latency is a histogram in words.
type Latency struct {
	Count int64   `json:"count"`
	P50   float64 `json:"p50Ms"`
	P99   float64 `json:"p99Ms"`
	P999  float64 `json:"p999Ms"`
	Max   float64 `json:"maxMs"`
}

func (h *histogram) latency() Latency {
	return Latency{
		h.total, h.quantile(500), h.quantile(990), h.quantile(999), float64(h.max) / 1000,
	}
}
