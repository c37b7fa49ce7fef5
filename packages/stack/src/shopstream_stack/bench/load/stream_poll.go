//go:build linux

package main

import (
	"errors"
	"io"
	"runtime"
	"syscall"
)

const (
	pollEvents  = syscall.EPOLLIN | syscall.EPOLLRDHUP
	readyMax    = 256
	pollForever = -1
)

var errShut = errors.New("the connection was shut by this program")

// poller reads many sockets in one goroutine. The runtime's own would wake a goroutine for each
// event and read each socket twice, for it is told of news only: that was half of the generator's
// work, and late by it.
type poller struct {
	run        *streamRun
	descriptor int
}

// newPollers makes as many as asked for, else one for each processor, or none where the system has
// no epoll.
func newPollers(run *streamRun) []*poller {
	count := run.spec.Pollers
	if count == 0 {
		count = runtime.GOMAXPROCS(0)
	}
	pollers := make([]*poller, 0, count)
	for range cap(pollers) {
		descriptor, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
		if err != nil {
			return nil
		}
		one := &poller{run, descriptor}
		pollers = append(pollers, one)
		go one.loop()
	}
	return pollers
}

func (s *stream) poller(run *streamRun) *poller {
	// A slow reader stops its goroutine, so it needs one.
	if len(run.pollers) == 0 || s.index >= run.spec.Connections-run.spec.Slow {
		return nil
	}
	return run.pollers[s.index%len(run.pollers)]
}

// pumpPolled hands the connection over and waits for its end.
func (s *stream) pumpPolled(from *socket, by *poller) error {
	if err := from.handOver(by, s.index); err != nil {
		return err
	}
	return <-from.done
}

// handOver takes the descriptor from the runtime.
func (k *socket) handOver(by *poller, index int) error {
	k.mutex.Lock()
	defer k.mutex.Unlock()
	if k.shut {
		return errShut
	}
	descriptor := noDescriptor
	var dupErr error
	err := k.raw.Control(func(old uintptr) { descriptor, dupErr = syscall.Dup(int(old)) })
	if err = errors.Join(err, dupErr); err != nil {
		return err
	}
	_ = k.conn.Close() // the duplicate keeps the connection
	k.descriptor, k.poller = descriptor, by
	event := syscall.EpollEvent{Events: pollEvents, Fd: int32(index)}
	return syscall.EpollCtl(by.descriptor, syscall.EPOLL_CTL_ADD, descriptor, &event)
}

func (p *poller) forget(descriptor int) {
	_ = syscall.EpollCtl(p.descriptor, syscall.EPOLL_CTL_DEL, descriptor, nil)
	_ = syscall.Close(descriptor)
}

func (p *poller) loop() {
	var buffer [readBytes]byte
	var ready [readyMax]syscall.EpollEvent
	for p.run.ctx.Err() == nil {
		n, err := syscall.EpollWait(p.descriptor, ready[:], pollForever)
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
		for _, event := range ready[:max(n, 0)] {
			one := p.run.streams[event.Fd]
			if from := one.socket.Load(); from != nil {
				one.readOnce(from, buffer[:])
			}
		}
	}
}

// readOnce: what is left in the socket is said again at once. The mutex is held throughout, so that
// the stream does not begin another connection meanwhile.
func (s *stream) readOnce(from *socket, buffer []byte) {
	from.mutex.Lock()
	defer from.mutex.Unlock()
	if from.shut || from.descriptor == noDescriptor {
		return // news of the connection before
	}
	n, err := syscall.Read(from.descriptor, buffer)
	switch {
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.EINTR):
		return
	case err != nil:
	case n == 0:
		err = io.EOF
	default:
		err = s.take(buffer[:n])
	}
	if err != nil {
		from.end(err)
	}
}
