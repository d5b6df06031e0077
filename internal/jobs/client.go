package jobs

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/wanrun/wanrun/internal/node"
)

// statusPatience is how long a launcher has to answer in List; one that runs takes
// about a millisecond.
const statusPatience = 2 * time.Second

// ErrStale is that the launcher which made the socket is dead.
var ErrStale = errors.New("the launcher of this job is dead; wanrun clean removes what it left")

// Entry is one job of a folder.
type Entry struct {
	ID     string
	Status *Status // nil if it cannot be had
	// Err is why it cannot: ErrStale, or that the launcher does not answer.
	Err error
}

// List asks all jobs of the folder dir at the same time and returns them in the order
// of their ids. A folder that is not there has none. The error is one of the folder.
func List(ctx context.Context, dir string) ([]Entry, error) {
	f, err := openFolder(dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.close()
	ids, err := f.jobs()
	if err != nil {
		return nil, err
	}
	entries := make([]Entry, len(ids))
	var wait sync.WaitGroup
	room := make(chan struct{}, 32) // asked at the same time
	for i, id := range ids {
		wait.Add(1)
		go func() {
			defer wait.Done()
			room <- struct{}{}
			defer func() { <-room }()
			ctx, cancel := context.WithTimeout(ctx, statusPatience)
			defer cancel()
			entries[i] = ask(ctx, dir, id)
		}()
	}
	wait.Wait()
	// One that ended while it was asked is no job any more.
	var there []Entry
	for _, e := range entries {
		if !errors.Is(e.Err, fs.ErrNotExist) {
			there = append(there, e)
		}
	}
	return there, nil
}

func ask(ctx context.Context, dir, id string) Entry {
	c, err := newClient(dir, id)
	if err != nil {
		return Entry{ID: id, Err: err}
	}
	defer c.Close()
	s, err := c.Status(ctx)
	if err != nil {
		return Entry{ID: id, Err: err}
	}
	return Entry{ID: id, Status: &s}
}

// Client talks to a job's launcher.
type Client struct {
	ID     string
	folder *folder
	http   *http.Client
}

// Open returns a client of a job in the folder dir: of the one named id, or of the only
// one whose name begins with it; "" is the only job there is. Errors: no such job, or
// more than one, with their names.
func Open(dir, id string) (*Client, error) {
	f, err := openFolder(dir, false)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("no job is running")
	}
	if err != nil {
		return nil, err
	}
	defer f.close()
	ids, err := f.jobs()
	if err != nil {
		return nil, err
	}
	var found, alive []string
	for _, known := range ids {
		if known == id {
			return newClient(dir, id)
		}
		if strings.HasPrefix(known, id) {
			found = append(found, known)
			name, err := fileName(known)
			if err != nil {
				return nil, err
			}
			if ok, err := f.alive(name); ok && err == nil {
				alive = append(alive, known)
			}
		}
	}
	if len(alive) > 0 {
		found = alive // dead ones are asked for by their full names alone
	}
	const shown = 8
	switch {
	case len(found) == 1:
		return newClient(dir, found[0])
	case len(found) > 1:
		text := strings.Join(found[:min(len(found), shown)], ", ")
		if len(found) > shown {
			text += ", …"
		}
		return nil, fmt.Errorf("%d jobs could be meant, name one: %s", len(found), text)
	case id == "":
		return nil, errors.New("no job is running")
	}
	return nil, fmt.Errorf("no job %q is running; wanrun ps lists them", id)
}

func newClient(dir, id string) (*Client, error) {
	name, err := fileName(id)
	if err != nil {
		return nil, err
	}
	f, err := openFolder(dir, false)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", f.at(name))
		if err != nil {
			return nil, err
		}
		if !sameUser(conn) {
			conn.Close()
			return nil, errors.New("the socket is of another user's process")
		}
		return conn, nil
	}
	return &Client{ID: id, folder: f, http: &http.Client{Transport: &http.Transport{
		DialContext: dial, DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}}}, nil
}

// Close frees the client.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.folder.close()
}

// do sends a request and returns the body of an answer that is well. The caller closes
// it.
func (c *Client) do(ctx context.Context, method, path string, body any) (io.ReadCloser, error) {
	var data []byte
	if body != nil {
		var err error
		if data, err = json.Marshal(body); err != nil {
			return nil, err
		}
	}
	q, err := http.NewRequestWithContext(ctx, method, "http://job"+path, bytes.NewReader(data))
	if err != nil {
		return nil, err
	}
	a, err := c.http.Do(q)
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return nil, fmt.Errorf("job %q: %w", c.ID, ErrStale)
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("job %q has ended: %w", c.ID, fs.ErrNotExist)
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("the launcher of job %q does not answer; it may be stopped: %w", c.ID, context.DeadlineExceeded)
	case err != nil:
		return nil, fmt.Errorf("job %q: %w", c.ID, errors.Unwrap(err))
	}
	if a.StatusCode/100 == 2 {
		return a.Body, nil
	}
	defer a.Body.Close()
	text, err := readBounded(a.Body, maxAnswer)
	var said errorAnswer
	if err == nil && json.Unmarshal(text, &said) == nil && said.Error != "" {
		return nil, fmt.Errorf("job %q: %s", c.ID, printable(said.Error))
	}
	return nil, fmt.Errorf("job %q answers %s", c.ID, printable(a.Status))
}

// Status asks for the job's status.
func (c *Client) Status(ctx context.Context) (Status, error) {
	data, err := c.get(ctx, http.MethodGet, "/v1/status", nil, maxStatus)
	if err != nil {
		return Status{}, err
	}
	return parseStatus(data)
}

// Stop asks the job to end, and does not wait for that.
func (c *Client) Stop(ctx context.Context, by string) error {
	_, err := c.get(ctx, http.MethodPost, "/v1/stop", stopRequest{by}, maxAnswer)
	return err
}

// Stacks has the stacks of all ranks written and returns the folder.
func (c *Client) Stacks(ctx context.Context) (string, error) {
	data, err := c.get(ctx, http.MethodPost, "/v1/stacks", nil, maxAnswer)
	if err != nil {
		return "", err
	}
	var a stacksAnswer
	if err := json.Unmarshal(data, &a); err != nil {
		return "", fmt.Errorf("answer about stacks: %w", err)
	}
	return printable(a.Folder), nil
}

func (c *Client) get(ctx context.Context, method, path string, body any, most int64) ([]byte, error) {
	r, err := c.do(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := readBounded(r, most)
	if err != nil {
		return nil, fmt.Errorf("answer of job %q: %w", c.ID, err)
	}
	return data, nil
}

// Log hands on the last lines of each rank, and with follow all that come until the job
// ends. An error of emit ends it. dropped is how many lines at the end came too fast for
// this reader; those lost before are in node.Line.Dropped.
// Errors: io.ErrUnexpectedEOF if the launcher died.
func (c *Client) Log(ctx context.Context, follow bool, emit func(node.Line) error) (dropped int, err error) {
	path := "/v1/log"
	if follow {
		path += "?follow=1"
	}
	body, err := c.do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	lines := bufio.NewScanner(body)
	lines.Buffer(make([]byte, 0, 64<<10), maxRecord)
	for lines.Scan() {
		r, err := parseRecord(lines.Bytes())
		if err != nil {
			return 0, fmt.Errorf("log of job %q: %w", c.ID, err)
		}
		if r.End {
			return r.Dropped, nil
		}
		if err := emit(r.line()); err != nil {
			return 0, err
		}
	}
	err = lines.Err()
	if ctx.Err() != nil {
		err = ctx.Err()
	} else if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return 0, fmt.Errorf("log of job %q: %w", c.ID, err)
}
