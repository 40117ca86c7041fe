// Package drop names the reasons for which the dataplane drops a packet. Every
// dropped packet is counted under one of them, by tenant.
//
// The list is in reasons.txt; the constants and docs/drop-reasons.md are
// generated from it, so that Go, eBPF and the documentation cannot disagree.
//
// Any package may import drop; it imports nothing.
package drop

//go:generate go run ./internal/gen/reasongen -list reasons.txt -go drop_gen.go -c ../offload/bpf/reasons.h -doc ../../docs/drop-reasons.md
