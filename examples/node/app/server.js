'use strict';

const express = require('express');

const app = express();

app.get('/hello/:name', (request, response) => {
  response.type('text/plain').send(`Hello, ${request.params.name}\n`);
});

app.listen(process.env.PORT || 8080);
