package port

import "errors"

// What can be wrong with a port as a whole. A closed port gives net.ErrClosed.
var (
	// ErrDown says that the interface is administratively down. Writing works
	// again as soon as it is up.
	ErrDown = errors.New("interface is down")
	// ErrGone says that the interface was deleted, or moved to another
	// namespace: the port is of no further use and should be closed.
	ErrGone = errors.New("interface is gone")
)
