package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	dialMax = 10 * time.Second
	// The server's head and all before it.
	headMax = 20 * time.Second
	// Read at once from a socket; lent only while there is something to read.
	readBytes = 64 << 10
	// With TLS each connection has one of its own.
	secureReadBytes = 16 << 10
	// A slow reader's kernel must not read ahead for it.
	slowReceiveBytes = 16 << 10
)

var buffers = sync.Pool{New: func() any { return new([readBytes]byte) }}

const noDescriptor = -1

// socket is one TCP connection; raw is nil with TLS. A stream may end with its first bytes.
type socket struct {
	conn  net.Conn
	raw   syscall.RawConn
	ended error
	// Guards what follows.
	mutex sync.Mutex
	shut  bool
	// Once it was handed over, conn is closed and the descriptor is the poller's.
	descriptor int
	poller     *poller
	done       chan error
}

// close resets the connection; whoever waits for its end is told.
func (k *socket) close() {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	k.end(net.ErrClosed)
}

// end is close with a reason, for who holds the mutex.
func (k *socket) end(reason error) {
	if k.shut {
		return
	}
	k.shut = true
	if k.descriptor == noDescriptor {
		_ = k.conn.Close()
	} else {
		k.poller.forget(k.descriptor)
	}
	k.done <- reason
}

// refusal is an answer that is no stream.
type refusal struct {
	status int
	text   string
}

func (r *refusal) Error() string { return r.text }

func (r *refusal) temporary() bool { return r.status >= 500 || r.status == 429 }

// connect opens the stream and hands the first bytes of its body to the parser.
func (s *stream) connect(run *streamRun) (*socket, error) {
	ctx, cancel := context.WithTimeout(run.ctx, dialMax)
	defer cancel()
	plain, err := run.dialer.DialContext(ctx, "tcp", run.spec.Address)
	if err != nil {
		return nil, err
	}
	tcp := plain.(*net.TCPConn)
	// Closed by a reset: ten thousand ports in TIME_WAIT would be missed at the next turn.
	_ = tcp.SetLinger(0)
	if s.index >= run.spec.Connections-run.spec.Slow {
		_ = tcp.SetReadBuffer(slowReceiveBytes)
	}
	made := &socket{conn: plain, descriptor: noDescriptor, done: make(chan error, 1)}
	if run.spec.Secure {
		name, _, _ := strings.Cut(run.host, ":")
		made.conn = tls.Client(plain, &tls.Config{ServerName: name, NextProtos: []string{"http/1.1"}})
	} else if made.raw, err = tcp.SyscallConn(); err != nil {
		return nil, err
	}
	if err := s.ask(run, made); err != nil {
		_ = plain.Close()
		return nil, err
	}
	return made, nil
}

func (s *stream) ask(run *streamRun, made *socket) error {
	_ = made.conn.SetDeadline(time.Now().Add(headMax))
	askedAt := time.Now().UnixMicro()
	if _, err := made.conn.Write(s.request(run)); err != nil {
		return err
	}
	buffer := buffers.Get().(*[readBytes]byte)
	defer buffers.Put(buffer)
	var head []byte
	end := -1
	for end < 0 {
		n, err := made.conn.Read(buffer[:])
		if err != nil {
			return fmt.Errorf("the server gave no head: %w", err)
		}
		head = append(head, buffer[:n]...)
		end = bytes.Index(head, []byte("\r\n\r\n"))
	}
	answer, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(head[:end+4])), nil)
	if err != nil {
		return err
	}
	kind := answer.Header.Get("Content-Type")
	if answer.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/event-stream") {
		return &refusal{answer.StatusCode, fmt.Sprintf("HTTP %d %s", answer.StatusCode, kind)}
	}
	_ = made.conn.SetDeadline(time.Time{})
	s.shard.mutex.Lock()
	defer s.shard.mutex.Unlock()
	s.begin(askedAt, len(answer.TransferEncoding) > 0)
	s.readAt = time.Now().UnixMicro()
	s.shard.bytes += int64(len(head) - end - 4)
	made.ended = s.body.feed(head[end+4:])
	return nil
}

func (s *stream) request(run *streamRun) []byte {
	var text bytes.Buffer
	fmt.Fprintf(&text, "GET %s HTTP/1.1\r\nHost: %s\r\n", s.path, run.host)
	text.WriteString("Accept: text/event-stream\r\nCache-Control: no-store\r\n")
	for name, value := range run.spec.Headers {
		fmt.Fprintf(&text, "%s: %s\r\n", name, value)
	}
	if len(s.lastID) > 0 {
		fmt.Fprintf(&text, "Last-Event-ID: %s\r\n", s.lastID)
	}
	text.WriteString("\r\n")
	return text.Bytes()
}

// pump reads until the connection ends; the error says how.
func (s *stream) pump(run *streamRun, from *socket) error {
	if from.ended != nil {
		return from.ended
	}
	if from.raw == nil {
		return s.pumpSecure(run, from)
	}
	if by := s.poller(run); by != nil {
		return s.pumpPolled(from, by)
	}
	var ended error
	// What it returns says whether to stop; until then it is called whenever there is more to read.
	err := from.raw.Read(func(descriptor uintptr) bool {
		buffer := buffers.Get().(*[readBytes]byte)
		defer buffers.Put(buffer)
		for {
			s.waitWhileStalled(run)
			n, err := syscall.Read(int(descriptor), buffer[:])
			switch {
			case errors.Is(err, syscall.EINTR):
				continue
			case errors.Is(err, syscall.EAGAIN):
				return false
			case err != nil:
				ended = err
			case n == 0:
				ended = io.EOF
			default:
				ended = s.take(buffer[:n])
			}
			if ended != nil {
				return true
			}
		}
	})
	if ended != nil {
		return ended
	}
	return err
}

func (s *stream) pumpSecure(run *streamRun, from *socket) error {
	buffer := make([]byte, secureReadBytes)
	for {
		s.waitWhileStalled(run)
		n, err := from.conn.Read(buffer)
		if n > 0 {
			if err := s.take(buffer[:n]); err != nil {
				return err
			}
		}
		if err != nil {
			return err
		}
	}
}

func (s *stream) take(raw []byte) error {
	s.shard.mutex.Lock()
	defer s.shard.mutex.Unlock()
	s.readAt = time.Now().UnixMicro()
	s.shard.bytes += int64(len(raw))
	return s.body.feed(raw)
}

func (s *stream) waitWhileStalled(run *streamRun) {
	for s.stalled.Load() {
		select {
		case <-run.ctx.Done():
			return
		case <-run.released():
		}
	}
}
