// Package recordfile reads lookup records from files: JSON and CSV as
// Get-NetVirtualizationLookupRecord gives them through ConvertTo-Json and
// Export-Csv, or with the field names of package v1, as `gatewayctl record list`
// prints them.
//
// Reading is strict: an unknown field or a value that is not understood is an
// error with its line, and all of them are told at once. Whether a record is
// right is for the gateway to say.
//
// Source of the names: class MSFT_NetVirtualizationLookupRecordSettingData of
// Windows Server's netwnvprov, and the cmdlet's documentation.
//
// It imports v1 and builds on every operating system; gatewayctl imports it.
package recordfile
