// Package server offers the REST interface under /v1, described by the OpenAPI
// document that it generates from package v1 and serves at /v1/openapi.json and
// /v1/openapi.yaml.
//
// It holds no state: it reads and writes the desired state through Store, and
// tells of the gateway at work through Backend. Errors are problem documents
// (RFC 9457).
//
// Only cmd/gatewayd and tests import it.
package server
