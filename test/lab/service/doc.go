// Package service holds the programs that run on the lab's machines: servers
// that say who they are and whom they see, and clients that report in JSON.
// cmd/hnvlab offers each as a subcommand, so that one binary started inside a
// namespace is all that a machine needs.
//
// Only programs and tests under test/ import service.
package service
