//go:build race

package flow

const floodDivisor = 10
