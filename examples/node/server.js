// A page that says how long the server has been up.
const http = require('http')
const ms = require('ms')

const greeting = require('./built.json').greeting

http
  .createServer((request, response) => {
    response.end(`${greeting}, up for ${ms(Math.round(process.uptime() * 1000))}. This is version 1.\n`)
  })
  .listen(process.env.PORT || 5000)
