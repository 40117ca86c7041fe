// Package bench turns what was measured into the files of the `make bench` targets:
//
//	test binaries --text--> Parse --> []Line, by round --> Collect --> Report
//	                                                                     |--> out/TARGET.json
//	package gateway ------------> []Sample, by round --> Compare --------'`--> a table
//
// Collect is for benchmarks of Go whose names have parts that differ, Compare for
// cases that stand beside each other.
//
// Benchmarks run in rounds, each of which runs all of them once, so that what is
// compared was measured side by side, and what else the machine was doing hits
// all alike. A Report has the median of the rounds, and the least and greatest
// for the spread. Ratios are medians of the ratios of each round.
//
// Only package gateway and the commands below it import this package.
package bench
