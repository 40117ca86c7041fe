package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	v1 "github.com/hnvgate/hnvgate/api/v1"
)

// age says a number of seconds as people do, with two units at most.
func age(seconds uint64) string {
	const minute, hour, day = 60, 3600, 86400
	switch {
	case seconds < minute:
		return fmt.Sprintf("%ds", seconds)
	case seconds < hour:
		return fmt.Sprintf("%dm%02ds", seconds/minute, seconds%minute)
	case seconds < day:
		return fmt.Sprintf("%dh%02dm", seconds/hour, seconds%hour/minute)
	}
	return fmt.Sprintf("%dd%02dh", seconds/day, seconds%day/hour)
}

// optionalAge is age of what may never have been.
func optionalAge(seconds *uint64, never string) string {
	if seconds == nil {
		return never
	}
	return age(*seconds)
}

// bytesWords says a number of bytes with three digits, in powers of 1000.
func bytesWords(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%dB", n)
	}
	v, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB", "EB"} {
		if v /= 1000; v < 999.5 {
			break
		}
	}
	digits := 0
	if v < 9.995 {
		digits = 2
	} else if v < 99.95 {
		digits = 1
	}
	return strconv.FormatFloat(v, 'f', digits, 64) + unit
}

func trafficWords(t v1.Traffic) string {
	return fmt.Sprintf("%s, %s", plural(int(t.Packets), "packet"), bytesWords(t.Bytes))
}

// rttWords says a round-trip time; empty: there is none.
func rttWords(ns int64) string {
	if ns == 0 {
		return ""
	}
	return strconv.FormatFloat(float64(ns)/float64(time.Millisecond), 'f', 2, 64) + "ms"
}

// percent says a share with one digit behind the point, unless it is 0.
func percent(v float64) string {
	return strings.TrimSuffix(strconv.FormatFloat(v, 'f', 1, 64), ".0") + "%"
}

// optionalNumber is a number that may not be there.
func optionalNumber[T ~uint32 | ~uint64](n *T) string {
	if n == nil {
		return ""
	}
	return strconv.FormatUint(uint64(*n), 10)
}
