// Package arch holds the rules of who may import whom, as a test. It has no
// code of its own.
package arch
