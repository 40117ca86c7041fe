// Package config reads gatewayd's configuration file: what this machine is and
// has. What its tenants want is not in it; that is the store's.
//
// Only cmd/gatewayd imports config.
package config
