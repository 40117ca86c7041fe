// Package document reads and writes the YAML of `gatewayctl apply` and
// `gatewayctl export`: a v1.Document, as one YAML document or as several, whose
// lists are then put together. docs/guide/configuration.md describes it.
//
// Reading is strict: an unknown field, a field given twice or one of the wrong
// sort is an error with its line and column, and all of them are told at once.
// Anchors, aliases and tags are not taken: a document says what it means where
// it stands.
//
// It imports v1 and builds on every operating system; gatewayctl imports it.
package document
