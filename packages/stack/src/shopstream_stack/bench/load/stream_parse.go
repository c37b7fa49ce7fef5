package main

import (
	"bytes"
	"errors"
	"strconv"
)

const (
	// Our largest event is 256 KiB; a longer line is a broken server's.
	lineBytesMax = 4 << 20
	// A chunk's size line, extensions included.
	sizeBytesMax = 4 << 10
	// What a connection keeps of the room that a long line took.
	restBytesKept = 16 << 10
)

var (
	errEnded     = errors.New("the server ended the stream")
	errChunkSize = errors.New("a chunk's size is no number")
	errLine      = errors.New("a line is longer than 4 MiB")
	byteOrder    = []byte("\xef\xbb\xbf")
)

type phase uint8

const (
	inSize phase = iota
	inData
	afterData
	unchunked
)

// body takes the chunks' framing off and cuts lines as the WHATWG standard says, however the
// network has cut the bytes. It keeps what of a line or a size has come so far, no more.
type body struct {
	take    func(line []byte) // a line without its end
	phase   phase
	left    int    // of the chunk
	size    []byte // of a size line
	rest    []byte // of a line
	started bool   // the first line has been taken
	afterCR bool   // a line feed that comes next belongs to the line before
}

// reset makes it ready for another response.
func (b *body) reset(chunked bool) {
	*b = body{take: b.take, size: b.size[:0], rest: b.rest[:0]}
	if !chunked {
		b.phase = unchunked
	}
}

func (b *body) feed(raw []byte) error {
	for len(raw) > 0 {
		switch b.phase {
		case unchunked:
			return b.lines(raw)
		case inSize:
			end := bytes.IndexByte(raw, '\n')
			if end < 0 {
				b.size = append(b.size, raw...)
				if len(b.size) > sizeBytesMax {
					return errChunkSize
				}
				return nil
			}
			line := raw[:end]
			if len(b.size) > 0 {
				b.size = append(b.size, line...)
				line = b.size
			}
			raw = raw[end+1:]
			size, err := chunkSize(line)
			if err != nil {
				return err
			}
			b.size = b.size[:0]
			if size == 0 {
				return errEnded
			}
			b.left, b.phase = size, inData
		case inData:
			n := min(b.left, len(raw))
			if err := b.lines(raw[:n]); err != nil {
				return err
			}
			raw = raw[n:]
			if b.left -= n; b.left == 0 {
				b.phase = afterData
			}
		case afterData:
			end := bytes.IndexByte(raw, '\n')
			if end < 0 {
				return nil
			}
			raw = raw[end+1:]
			b.phase = inSize
		}
	}
	return nil
}

func chunkSize(line []byte) (int, error) {
	line, _, _ = bytes.Cut(line, []byte(";"))
	size, err := strconv.ParseUint(string(bytes.TrimSpace(line)), 16, 31)
	if err != nil {
		return 0, errChunkSize
	}
	return int(size), nil
}

func (b *body) lines(span []byte) error {
	if b.afterCR || bytes.IndexByte(span, '\r') >= 0 {
		return b.anyLines(span)
	}
	for {
		end := bytes.IndexByte(span, '\n')
		if end < 0 {
			return b.keep(span)
		}
		b.line(span[:end])
		span = span[end+1:]
	}
}

// anyLines knows all three ends of a line; few servers send others than line feeds.
func (b *body) anyLines(span []byte) error {
	if b.afterCR && len(span) > 0 {
		b.afterCR = false
		if span[0] == '\n' {
			span = span[1:]
		}
	}
	for {
		end := bytes.IndexAny(span, "\r\n")
		if end < 0 {
			return b.keep(span)
		}
		b.line(span[:end])
		isCR := span[end] == '\r'
		span = span[end+1:]
		if !isCR {
			continue
		}
		if len(span) == 0 {
			b.afterCR = true
		} else if span[0] == '\n' {
			span = span[1:]
		}
	}
}

func (b *body) keep(span []byte) error {
	if len(b.rest)+len(span) > lineBytesMax {
		return errLine
	}
	b.rest = append(b.rest, span...)
	return nil
}

func (b *body) line(line []byte) {
	if len(b.rest) == 0 {
		b.whole(line)
		return
	}
	b.rest = append(b.rest, line...)
	b.whole(b.rest)
	if b.rest = b.rest[:0]; cap(b.rest) > restBytesKept {
		b.rest = nil
	}
}

func (b *body) whole(line []byte) {
	if !b.started {
		b.started = true
		line = bytes.TrimPrefix(line, byteOrder)
	}
	b.take(line)
}
