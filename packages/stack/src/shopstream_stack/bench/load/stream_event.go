package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// fact is what the checks need of one of our events; key counts what has a sequence of its own,
// a subject on a topic.
type fact struct {
	key      int
	sequence uint32
	at       int64 // microseconds of the epoch
}

// As no quote stands in a string without a backslash, none of these can be a part of a value.
var marks = [4]string{`"type":"`, `"subject":"`, `"time":"`, `"sequence":"`}

// places is where in an event the attributes stood last, each counted from the end of the one
// before: most events of a stream are alike up to there.
type places [5]int

// readEvent finds the four attributes in the order in which our codec writes them, and asks a JSON
// parser only when they do not stand so. With a moment, the time is that of a member of the data, whose
// mark it is; an event without one is none then.
func readEvent(value []byte, keys *keys, clock *minutes, at *places, moment string) (fact, bool) {
	var found [4][]byte
	rest := value
	for i, mark := range marks {
		var ok bool
		if found[i], rest, ok = attribute(rest, mark, &at[i]); !ok {
			return readAnyEvent(value, keys, clock, moment)
		}
	}
	if moment != "" {
		var ok bool
		if found[2], _, ok = attribute(rest, moment, &at[len(marks)]); !ok {
			return fact{}, false
		}
	}
	if bytes.IndexByte(found[1], '\\') >= 0 {
		return readAnyEvent(value, keys, clock, moment)
	}
	return newFact(found[0], found[1], found[2], found[3], keys, clock)
}

// Whoever asks for a moment sends events that stand in our order: another one is a miss, and not an
// event whose latency counts from a later time.
func readAnyEvent(value []byte, keys *keys, clock *minutes, moment string) (fact, bool) {
	if moment != "" {
		return fact{}, false
	}
	var event struct{ Type, Subject, Time, Sequence string }
	if json.Unmarshal(value, &event) != nil {
		return fact{}, false
	}
	return newFact([]byte(event.Type), []byte(event.Subject), []byte(event.Time),
		[]byte(event.Sequence), keys, clock)
}

func newFact(kind, subject, moment, sequence []byte, keys *keys, clock *minutes) (fact, bool) {
	number, ok := decimal(sequence)
	if !ok || number == 0 || len(subject) == 0 {
		return fact{}, false
	}
	at, ok := clock.micros(moment)
	return fact{keys.index(topicOf(kind), subject), number, at}, ok
}

func attribute(text []byte, mark string, place *int) (value, rest []byte, ok bool) {
	at := *place
	if len(text) < at+len(mark) || string(text[at:at+len(mark)]) != mark {
		if at = bytes.Index(text, []byte(mark)); at < 0 {
			return nil, nil, false
		}
		*place = at
	}
	text = text[at+len(mark):]
	end := bytes.IndexByte(text, '"')
	if end < 0 {
		return nil, nil, false
	}
	return text[:end], text[end:], true
}

func decimal(digits []byte) (uint32, bool) {
	if len(digits) == 0 || len(digits) > 9 {
		return 0, false
	}
	var number uint32
	for _, digit := range digits {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		number = number*10 + uint32(digit-'0')
	}
	return number, true
}

var topics = []string{"shop.products", "shop.orders", "shop.inventory"}

// topicOf is the topic that a type of event belongs on: the two warnings are facts about stock.
func topicOf(kind []byte) int {
	switch {
	case string(kind) == "product.low_stock", string(kind) == "product.out_of_stock":
		return 2
	case bytes.HasPrefix(kind, []byte("product.")):
		return 0
	case bytes.HasPrefix(kind, []byte("order.")):
		return 1
	default:
		return 2
	}
}

// keys numbers what has a sequence of its own. Looking up what is known takes no lock: every event
// of every connection does it.
type keys struct {
	known [3]atomic.Pointer[map[string]int]
	mutex sync.Mutex
	// What came since the map above was made, and everything by number.
	fresh [3]map[string]int
	names []string
}

func newKeys() *keys {
	k := &keys{}
	for topic := range k.known {
		k.known[topic].Store(&map[string]int{})
		k.fresh[topic] = map[string]int{}
	}
	return k
}

func (k *keys) index(topic int, subject []byte) int {
	if found, ok := (*k.known[topic].Load())[string(subject)]; ok {
		return found
	}
	k.mutex.Lock()
	defer k.mutex.Unlock()
	known := *k.known[topic].Load()
	if found, ok := known[string(subject)]; ok {
		return found
	}
	fresh := k.fresh[topic]
	found, ok := fresh[string(subject)]
	if !ok {
		found = len(k.names)
		k.names = append(k.names, topics[topic]+" "+string(subject))
		fresh[string(subject)] = found
	}
	// Now and then what is fresh becomes known: a copy a quarter more, not one each time.
	if len(fresh) > len(known)/4 {
		both := make(map[string]int, len(known)+len(fresh))
		for _, part := range []map[string]int{known, fresh} {
			for name, number := range part {
				both[name] = number
			}
		}
		k.known[topic].Store(&both)
		k.fresh[topic] = map[string]int{}
	}
	return found
}

// of is the number of a "topic subject", which is given one if need be; -1 for another text.
func (k *keys) of(name string) int {
	topic, subject, _ := strings.Cut(name, " ")
	for number, known := range topics {
		if known == topic {
			return k.index(number, []byte(subject))
		}
	}
	return -1
}

func (k *keys) name(index int) string {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	return k.names[index]
}

// minutes reads RFC 3339 times, most of which share their minute with the one before.
type minutes struct {
	last atomic.Pointer[minute]
}

type minute struct {
	text   string // up to the seconds
	micros int64
}

const (
	minuteLength = len("2026-11-21T05:00:")
	timeLength   = len("2026-11-21T05:00:00.123456Z")
)

func (m *minutes) micros(text []byte) (int64, bool) {
	if len(text) != timeLength || text[timeLength-1] != 'Z' {
		moment, err := time.Parse(time.RFC3339Nano, string(text))
		return moment.UnixMicro(), err == nil
	}
	last := m.last.Load()
	if last == nil || last.text != string(text[:minuteLength]) {
		moment, err := time.Parse(time.RFC3339, string(text[:minuteLength])+"00Z")
		if err != nil {
			return 0, false
		}
		last = &minute{string(text[:minuteLength]), moment.UnixMicro()}
		m.last.Store(last)
	}
	seconds, good := decimal(text[minuteLength : minuteLength+2])
	fraction, ok := decimal(text[minuteLength+3 : timeLength-1])
	return last.micros + int64(seconds)*1_000_000 + int64(fraction), good && ok
}
