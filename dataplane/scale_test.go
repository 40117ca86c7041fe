package dataplane

import (
	"os"
	"strconv"
	"testing"
)

// scaled gives how many rounds a heavy test makes that usually makes n: less with
// -short and under the race detector, and HNV_TEST_SCALE times as many.
func scaled(n int) int {
	if testing.Short() {
		n /= 4
	}
	if underRace {
		n /= 8
	}
	if by, err := strconv.ParseFloat(os.Getenv("HNV_TEST_SCALE"), 64); err == nil && by > 0 {
		n = int(float64(n) * by)
	}
	return max(n, 1)
}
