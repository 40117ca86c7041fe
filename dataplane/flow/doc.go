// Package flow is the unified flow table (UFT) of a port: what the layers have
// decided for the first packet of a flow, kept for the packets that follow.
package flow
