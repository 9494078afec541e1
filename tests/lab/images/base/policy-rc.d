#!/bin/sh
# Nothing is started when a package is installed into an image.
exit 101
