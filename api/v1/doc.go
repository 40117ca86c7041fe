// Package v1 holds the types of the REST interface under /v1, as they stand in
// JSON and in the YAML of `gatewayctl apply`.
//
// They are plain: numbers, strings and lists, nothing that must be built. What
// is right and wrong about them is said in one place only, package hnv; the
// Object methods lead there, the New functions lead back.
//
// Compatibility: within v1 fields are added, never renamed, removed or given
// another meaning.
//
// It imports hnv and the standard library and builds on every operating system;
// server, client and command line import it.
package v1
