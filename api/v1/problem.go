package v1

// The types of problem documents, by what refused.
const (
	ProblemInvalid      = "urn:hnvgate:problem:invalid"      // 422: wrong whatever else exists
	ProblemConflict     = "urn:hnvgate:problem:conflict"     // 409: contradicts another object
	ProblemInUse        = "urn:hnvgate:problem:in-use"       // 409: others still depend on it
	ProblemNotFound     = "urn:hnvgate:problem:not-found"    // 404: names something that is not there
	ProblemPrecondition = "urn:hnvgate:problem:precondition" // 412: the object changed since it was read
	ProblemForbidden    = "urn:hnvgate:problem:forbidden"    // 403: not with this client certificate
	ProblemRequest      = "urn:hnvgate:problem:request"      // other 4xx: not a request of this interface
	ProblemUnavailable  = "urn:hnvgate:problem:unavailable"  // 5xx: the gateway could not do it now
)

// Problem is what every refusal answers (RFC 9457), as
// application/problem+json. Nothing was changed.
type Problem struct {
	Type   string          `json:"type" doc:"What refused."`
	Title  string          `json:"title,omitempty" doc:"The HTTP status in words."`
	Status int             `json:"status" doc:"The HTTP status."`
	Detail string          `json:"detail" doc:"What is wrong and what to do."`
	Errors []ProblemDetail `json:"errors,omitempty" doc:"All that is wrong, each with its place." nullable:"false"`
}

// ProblemDetail is one of the things that are wrong.
type ProblemDetail struct {
	Message  string `json:"message" doc:"What is wrong and what to do; it names the object."`
	Location string `json:"location,omitempty" doc:"Where in the request, e.g. body.lookupRecords[3].mac." example:"body.lookupRecords[3].mac"`
}

func (p *Problem) Error() string { return p.Detail }
