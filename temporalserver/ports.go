package temporalserver

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// The server takes its ports by number and listens on them later, so a port
// that is free now has to be free then, and at a restart. Below the ports that
// systems give to outgoing connections, only another server can take it.
const firstPort, lastPort = 20_000, 32_000

// freePorts finds ports that are free, each of them another.
func freePorts(ip string, n int) ([]int, error) {
	var ports []int
	var last error
	for range 200 {
		if len(ports) == n {
			return ports, nil
		}
		// It stays open until all are found.
		l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(firstPort+rand.IntN(lastPort-firstPort))))
		if err != nil {
			last = err
			continue
		}
		defer l.Close()
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return nil, fmt.Errorf("no free port between %d and %d: %w", firstPort, lastPort, last)
}

// checkPort says whether a port can be had, or finds one for zero.
func checkPort(ip string, port int) (int, error) {
	if port == 0 {
		ports, err := freePorts(ip, 1)
		if err != nil {
			return 0, err
		}
		return ports[0], nil
	}
	l, err := net.Listen("tcp", net.JoinHostPort(ip, strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return 0, fmt.Errorf("%s port %d: %w", ip, port, ErrAddressInUse)
	}
	if err != nil {
		return 0, err
	}
	return port, l.Close()
}
