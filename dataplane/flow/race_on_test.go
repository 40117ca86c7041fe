//go:build race

package flow

// The race detector makes everything this many times slower, or so.
const slower = 16
