// Package jobs is a running launcher as others see it: the list of a user's jobs, the
// lines of their ranks, how to stop them, where their stacks are, what dead ones have
// left behind; their figures over HTTP, and a trace of how they started.
//
// Each launcher of a job registers: it listens on a Unix socket JOB.sock, mode 0600, in a
// folder of its user, mode 0700, and both ends check by the kernel's word that the other
// is the same user's. Over the socket goes HTTP/1.1 with JSON, everything bounded; `curl
// --unix-socket JOB.sock http://job/v1/status` works:
//
//	GET  /v1/status        Status
//	GET  /v1/log?follow=1  records of lines, one JSON object a line, the last is {"end":true}
//	POST /v1/stop          {"by":"who asks"}
//	POST /v1/stacks        {"folder":"/where/they/are"}
//
// A socket where nobody listens is what a killed launcher left. A launcher that is
// stopped or hangs has one that does not answer, and is listed as such.
package jobs
