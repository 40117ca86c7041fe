// Package hnv holds the words of Hyper-V Network Virtualization and the rules
// that every value of them obeys: routing domains, virtual subnets, customer
// and provider addresses, lookup records, routes, tenants and their NAT.
//
// Identifiers (VSID, RDID, MAC, Name) cannot be built with an invalid value.
// Composite objects (Tenant, Record, ...) implement Object; Check holds what
// can be said of one alone, and Fabric holds what must be true of all of them
// together. Fabric is the only door into the desired state.
//
// Sources: RFC 7637 (NVGRE) sections 3.2 and 3.4 for the VSID, RFC 7348 section 5 for
// the VNI, RFC 9562 for the GUID form of the RDID.
//
// Any package may import hnv; hnv imports the standard library only.
package hnv
